"""What the fixture recogniser knows, as Whisper writes: commands that skills understand, and talk beyond them."""

MINUTES = ("two", "five", "ten", "twenty", "thirty")
GROCERIES = ("milk", "bread", "eggs")
ROOMS = ("kitchen", "bedroom", "living room")
PERSONAS = ("chef", "pirate", "teacher")

TIMERS = [
    *(f"Set a timer for {minutes} minutes." for minutes in MINUTES),
    "Set a pasta timer for nine minutes.",
    "Set a tea timer for four minutes.",
    "How much time is left?",
    "How long is left on the pasta timer?",
    "What timers do I have?",
    "Pause the timer.",
    "Resume the timer.",
    "Add five minutes to the timer.",
    "Cancel the timer.",
    "Cancel the pasta timer.",
    "Cancel all timers.",
    "Snooze.",
    "Snooze for five minutes.",
    "Start the stopwatch.",
    "Stop the stopwatch.",
]
ALARMS = [
    "Wake me up at seven.",
    "Wake me up at six thirty.",
    "Set an alarm for seven thirty tomorrow.",
    "Set an alarm for six every weekday.",
    "What alarms do I have?",
    "Cancel the alarm.",
    "Cancel all alarms.",
    "Remind me to call mom at five.",
    "Remind me to take out the trash tomorrow at eight.",
    "Remind me to feed the cat in ten minutes.",
    "What are my reminders?",
]
LISTS = [
    *(f"Add {item} to the shopping list." for item in GROCERIES),
    "Remove milk from the shopping list.",
    "Read the shopping list.",
    "Clear the shopping list.",
    "Add call the plumber to the to-do list.",
    "Read the to-do list.",
]
FACTS = [
    "What time is it?",
    "What day is it today?",
    "What is the date today?",
    "How many days until Christmas?",
    "What is two plus two?",
    "What is seven times eight?",
    "What is ten percent of fifty?",
    "Convert five miles to kilometers.",
    "How many grams are in a pound?",
    "How many teaspoons are in a tablespoon?",
    "Flip a coin.",
    "Roll the dice.",
    "Tell me a joke.",
]
ROOM = [
    "Stop.",
    "Never mind.",
    "Say that again.",
    "Volume up.",
    "Volume down.",
    "Set the volume to fifty percent.",
    "Hello.",
    "Good morning.",
    "Good night.",
    "Goodbye.",
    "Thank you.",
    "How are you?",
    "Who are you?",
    "What is your name?",
    "Help.",
    "What can you do?",
    "What can you do in the kitchen?",
    "Why were you slow?",
    "Forget the last hour.",
]
COMMANDS = [*TIMERS, *ALARMS, *LISTS, *FACTS, *ROOM]

TALK = [
    *(f"Switch to the {persona}." for persona in PERSONAS),
    *(f"Continue in the {room}." for room in ROOMS),
    *(f"Turn {state} the {room} lights." for room in ROOMS[:2] for state in ("on", "off")),
    "Tell me a story.",
    "Tell me more.",
    "What is the capital of France?",
    "What is the capital of Germany?",
    "Who wrote Hamlet?",
    "How do I boil an egg?",
    "What should I cook for dinner?",
    "My name is Sam.",
    "What is my name?",
    "Remember that I like tea.",
    "What do I like to drink?",
    "Will it rain tomorrow?",
    "Yes.",
    "No.",
]
PHRASES = [*COMMANDS, *TALK]

HELD_OUT_VOICES = (
    *("en-us+m3", "en-us+m5", "en-us+m7", "en-us+f2", "en-us+Denis", "en-us+quincy"),
    *("en-gb", "en-gb-x-rp", "en-gb+f3", "en-gb+linda", "en-gb-x-rp+m1", "en-gb-x-gbcwmd+m3"),
)
"""Voices of espeak-ng that it was not trained on, for measuring it; of the last one not even the accent."""
