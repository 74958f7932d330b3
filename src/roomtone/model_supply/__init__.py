"""How models get into the models folder: from the hub, from a mirror, or from a folder or a stick.

catalogue.py    the models Roomtone knows
choice.py       which of them suit this machine
fetching.py     fetching files: taken up where they broke off, compared with what was told of them
hub.py          what the Hugging Face Hub, or the page a model is kept on, tells of a model
mirror.py       the models folder of another machine, served as plain files
taking_in.py    one model from a folder or a file
sticks.py       all the models of a folder; sticks that are plugged in
"""
