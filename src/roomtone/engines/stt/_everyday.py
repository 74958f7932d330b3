"""Common English words, and names, that are said alone in a room without being meant for it.

Words that sound like "stop" or "hello" are left out: those must never be lost.
"""

from __future__ import annotations

WORDS = """
the and you was for are with his they this have from had but not what all were when your can there use
each which she how their will other about out many then them these some her would make like him into has look more
write see number way could people than first been call its now find long down day did get come made may part
over zero one two three four five six seven eight nine ten eleven twelve thirteen fifteen sixteen twenty thirty
forty fifty hundred thousand monday tuesday wednesday thursday friday saturday sunday january february march april
june july august september october november december red blue green black white brown orange pink purple
grey gold silver mother father brother sister mum dad baby child children boy girl man woman friend uncle aunt
grandma family person anna peter john mary michael david sarah tom emma paul laura james alice george lucy jack max
ben kate simon maria robert linda london paris england america germany france berlin house home room kitchen
bathroom bedroom garden door window wall floor table chair bed lamp light roof street road car bus train
bike plane boat water coffee tea milk juice beer wine bread butter cheese egg meat fish rice soup cake apple banana
potato sugar pepper chocolate cat dog bird horse cow pig mouse sheep chicken tree flower grass river sea
mountain sun moon rain snow wind cloud fire sky work office money market book paper letter pen
phone computer radio television music film game news party holiday doctor hospital police head hand foot face eye
ear nose mouth hair arm leg back heart year month week today tomorrow yesterday morning evening night hour minute
second moment time always never sometimes often again later soon early late yes yeah okay please sorry well right
left maybe really sure fine good bad great nice happy sad big little old new young cold warm dry wet fast
easy hard high low full empty open close clean dirty beautiful pretty funny tired hungry ready wrong same
different went gone going coming came take took give gave put keep kept leave let know knew think say
ask answer hear heard listen speak talk read watch show play run walk sit stand sleep eat drink buy sell pay
cost cut break build grow learn teach try begin finish turn move carry hold bring send meet help need want
wish love hate hope believe feel felt forget remember wait win lose follow happen change something nothing
everything anything somebody nobody everyone here where why because before after between under above behind inside
outside away around together only just already almost enough another every both few much most very too front
bottom corner middle end line word question problem idea story picture name thing place world country city
town village church bridge hotel airport forward backward off hey bye wow hello thanks welcome visual
marvin alexa jarvis siri google robot
"""
