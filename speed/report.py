"""RESULTS.md from the results of all benchmark scripts: `python speed/report.py`."""

from pathlib import Path

from side_by_side import Row, Table, lines_of, read_results

HEAD = """# How fast, measured side by side

Made by the scripts that `make bench` runs. Contenders take turns in one process or in alternating
processes; a ratio is that of medians, and above 1 is better, whatever the unit. A "limit" is what
the same work costs with nothing around it.
"""


def main() -> None:
    lines = [HEAD]
    for topic, content in read_results().items():
        found = {name: number for name, number in content["versions"].items() if number}
        versions = ", ".join(f"{name} {number}" for name, number in found.items())
        lines += [f"## {topic}", f"{content['date']}, {content['machine']}; {versions}.", ""]
        for table in content["tables"]:
            rows = [Row(**row) for row in table.pop("rows")]
            lines += lines_of(Table(**table, rows=rows))
    Path(__file__).with_name("RESULTS.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
