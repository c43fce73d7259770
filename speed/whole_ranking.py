"""All default metrics, MAP among them, beside FAISS's search alone for 11 neighbours.

    python speed/whole_ranking.py

Sets are those of evaluation.py: class centres plus noise, 12 and 60 images a class; queries are
the gallery. Freed memory is kept, as in every verb.
"""

import argparse
from functools import partial

from evaluation import FAISS, clusters, ours, search_alone
from side_by_side import ROUNDS, Table, rows, take_turns, write

from lookalike.memory import keep_freed_memory

COMMAND = "python speed/whole_ranking.py"
PACKAGES = ("torch", "numpy", "faiss-cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--images", type=int, default=60_000)
    options = parser.parse_args()
    keep_freed_memory()
    sets = {f"lookalike, {each} a class": clusters(options.images, 512, each) for each in (12, 60)}
    first = next(iter(sets.values()))
    contenders = {FAISS: partial(search_alone, first)}
    contenders |= {name: partial(ours, each, whole_ranking=True) for name, each in sets.items()}
    values = take_turns(contenders, options.rounds, warm_up=False)
    table = Table(
        f"All default metrics with MAP, {options.images:,} x 512",
        COMMAND,
        "s",
        FAISS,
        rows(values, FAISS, dict.fromkeys(sets, 1)),
        ["FAISS only searches; we rank every relevant item among all, exactly."],
        PACKAGES,
    )
    write("whole_ranking", [table])


if __name__ == "__main__":
    main()
