"""Makes the small data sets of the examples: python benchmarks/make_data.py FOLDER

digits.npz: 1,797 handwritten digits of 8 x 8 pixels, the test set of "Optical Recognition of Handwritten
Digits" (E. Alpaydin, C. Kaynak; UCI Machine Learning Repository, CC BY 4.0) as scikit-learn ships it.

reviews/: short made-up reviews. Their label is the sentiment of most of their opinion words. Words
come in sets of synonyms, and which synonym a training text uses gives its label away more often than
not; in test texts it says nothing. A classifier that leans on that can be fooled by synonyms.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np

LENGTH, TRAINING, TESTING = 10, 1500, 400
GIVEN_AWAY = 0.7  # of the neutral words in training texts use the synonym that their label prefers

OPINIONS = {
    1: [["good", "fine", "decent"], ["great", "superb", "splendid"], ["funny", "witty", "amusing"],
        ["moving", "touching", "stirring"], ["fresh", "original", "inventive"]],
    0: [["bad", "poor", "weak"], ["awful", "dreadful", "terrible"], ["boring", "dull", "tedious"],
        ["silly", "foolish", "absurd"], ["stale", "tired", "worn"]],
}  # fmt: skip
# The first half of each set goes with negative training texts, the second half with positive ones.
NEUTRAL = [["film", "picture", "movie", "feature"], ["plot", "story", "tale", "narrative"],
           ["actor", "player", "performer", "lead"], ["scene", "moment", "part", "passage"],
           ["watched", "viewed", "saw", "caught"], ["today", "lately", "recently", "yesterday"],
           ["ending", "finish", "close", "finale"], ["music", "score", "sound", "tune"]]  # fmt: skip
FILLERS = ["the", "a", "and", "with", "of", "it", "was", "is"]


def review(rng: random.Random, training: bool) -> tuple[int, list[str]]:
    """A label and LENGTH words."""
    label = rng.randrange(2)
    opinions = [label] * rng.choice([2, 3]) + [1 - label] * rng.choice([0, 1])
    words = [rng.choice(rng.choice(OPINIONS[sentiment])) for sentiment in opinions]
    while len(words) < LENGTH - 1:
        if rng.random() < 0.6:
            synonyms = rng.choice(NEUTRAL)
            preferred = synonyms[2 * label : 2 * label + 2]
            words.append(rng.choice(preferred if training and rng.random() < GIVEN_AWAY else synonyms))
        else:
            words.append(rng.choice(FILLERS))
    rng.shuffle(words)
    return label, [*words, "."]


def write_reviews(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for name, count, training in (("train", TRAINING, True), ("test", TESTING, False)):
        lines = [f"{label}\t{' '.join(words)}\n" for label, words in (review(rng, training) for _ in range(count))]
        (folder / f"{name}.tsv").write_text("".join(lines))
    sets = [*OPINIONS[0], *OPINIONS[1], *NEUTRAL]
    synonyms = {word: [other for other in words if other != word] for words in sets for word in words}
    (folder / "synonyms.json").write_text(json.dumps(synonyms, indent=0) + "\n")


def write_digits(path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez_compressed(path, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_digits(folder / "digits.npz")
    write_reviews(folder / "reviews")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
