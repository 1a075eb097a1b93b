"""Sentences to speak: a small grammar for training, and a fixed list that training never sees."""

from __future__ import annotations

import numpy as np

_SUBJECTS = ("the old man", "my sister", "a young painter", "the green boat", "everybody", "our teacher",
             "the baker", "that big dog", "a famous poet", "the mayor", "her brother", "the cheap watch",
             "your uncle", "the judge", "a few people", "the moon", "my best friend", "this machine")  # fmt: skip
_VERBS = ("found", "would rather buy", "finally opened", "is looking at", "jumped over", "forgot", "chose",
          "measured", "should bring back", "paid for", "has already broken", "gave away", "laughed about",
          "must follow", "thought of", "showed me", "wished for", "moved")  # fmt: skip
_OBJECTS = ("a beautiful yellow house", "five white pebbles", "the five o'clock bus", "some fresh bread",
            "a very thin blue thread", "the other half of the map", "my cup of coffee", "an empty bottle",
            "the vague rumour", "a pair of shoes", "two huge mushrooms", "the warm water", "a good idea",
            "everything we own", "the whole village", "his father's violin", "a box of chocolates")  # fmt: skip
_ENDINGS = ("before the rain came", "in the middle of the night", "because nobody was watching",
            "for the first time", "without any reason", "on a sunny afternoon", "near the river",
            "when the music stopped", "as usual", "behind the church", "and went home", "")  # fmt: skip
_JOINTS = (". ", "... ", ", but ", "; ", "! ", "? ")

HELD_OUT = (
    "Please wave goodbye to both of them, and come back to me by half past four.",
    "Why would anyone move a piano up the stairs on Monday? I really cannot imagine.",
    "She sells smooth seashells; we simply watch from the beach and smile.",
    "Most of the time, happiness is a small room with an open window.",
    "Bob and Pam made maple muffins. Few of us ever had a bigger breakfast!",
    "The weather today will be cloudy, with showers over the northern hills.",
    "You may ask a question at any moment. Nobody here is going to bite.",
    "Thank you for calling. Your voice is important, so speak slowly and clearly.",
    "A purple balloon flew over the football field and vanished above the woods.",
    "How are you? I am fine, thanks. Let us walk along the shore before dark.",
    "Every evening my grandmother told a story about wolves, kings and silver spoons.",
    "Open the file, choose a picture, press the button, and wait for the movie.",
)


_ONSETS = ("", "", "b", "p", "m", "f", "v", "t", "d", "n", "l", "r", "s", "z", "k", "g", "h", "w", "y", "sh", "ch", "j",
           "th", "st", "sp", "tr", "pl", "br", "kw", "fl", "gr", "sm", "sw", "dr")  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "ee", "oo", "ai", "oa", "ow", "oy", "ar", "er", "or", "igh", "aw")
_CODAS = ("", "", "", "n", "m", "t", "s", "l", "r", "k", "p", "b", "d", "f", "v", "sh", "ch", "ng", "nd", "st", "lt",
          "mp")  # fmt: skip
_NONSENSE_SHARE = 0.6


def training_sentence(random: np.random.Generator) -> str:
    """A sentence of the grammar, or of words that do not exist: an ear must not learn words by heart."""
    return nonsense(random) if random.random() < _NONSENSE_SHARE else _grammatical(random)


def nonsense(random: np.random.Generator) -> str:
    """Three to twelve invented words of one to three syllables each, at times with a pause between them."""
    words = []
    for _ in range(random.integers(3, 13)):
        syllables = random.integers(1, 4)
        word = "".join(
            str(random.choice(part)) for _ in range(syllables) for part in (_ONSETS, _NUCLEI, _CODAS)
        )
        words.append(word + ("," if random.random() < 0.1 else ""))
    return " ".join(words) + "."


def _grammatical(random: np.random.Generator) -> str:
    """One or two random clauses, joined by punctuation that makes the voice pause."""

    def clause() -> str:
        parts = [str(random.choice(words)) for words in (_SUBJECTS, _VERBS, _OBJECTS, _ENDINGS)]
        return " ".join(part for part in parts if part)

    return clause() + str(random.choice(_JOINTS)) + clause() + "."
