"""The tables of a controller's evaluation as markdown: what was measured, floors, and what others published, in percent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refine.evals import controller, published
from refine.evals.controller import PER_PICTURE, POOLED, UNTOUCHED, Row
from refine.evals.datasets.items import DROPPED, NOTED, Dataset, Fault
from refine.evals.detection import Detection, detection, mean_accuracy
from refine.evals.statistics import Interval
from refine.overlap import Overlap

NONE = "–"
MEASURED = "**measured here**"
COMPARED = ("LEGION", "PAL4VST")  # whose robustness was published
SHOWN = 3  # ids that stand for a kind of fault
HOW_TO_READ = (
    "Figures are percent with 95 % intervals over pictures (bootstrap; Wilson for shares). Published figures are copied.",
    "mIoU averages the IoU of the faults with that of the background, so the row of a controller that finds nothing is its floor.",
    "Pooled figures add up pixels over all pictures before dividing; the other means count every picture the same.",
    "ROUGE-L compares runs of lower-case letters and digits, unstemmed. CSS reads 128 word pieces; what comes after does not count.",
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the tables are made from. ``rows`` by condition; ``asked``: how many entries were to be measured."""

    dataset: Dataset
    asked: int
    rows: Mapping[str, Sequence[Row]]
    faults: Sequence[Fault]
    about: Sequence[str] = ()

    @property
    def plain(self) -> Sequence[Row]:
        """The rows of undisturbed pictures."""
        return self.rows.get(UNTOUCHED, ())


def markdown(report: Report) -> str:
    """The whole text; sections without a figure are left out."""
    dataset = report.dataset
    head = [f"# A controller on {dataset.name}, {dataset.split}", "\n".join(f"- {line}" for line in (*report.about, *_counts(report)))]
    sections = (_faults(report), _localisation(report), _groups(report), _alarms(report), _explanation(report), _detection(report))
    notes = "\n".join(f"- {line}" for line in (*HOW_TO_READ, *dataset.remarks, *_part(report)))
    return "\n\n".join([*head, *filter(None, (*sections, _robustness(report))), f"## How to read this\n\n{notes}"]) + "\n"


def _counts(report: Report) -> list[str]:
    listed = len(report.dataset.entries) + len(report.dataset.faults)
    first = "" if report.asked == len(report.dataset.entries) else f", the first {report.asked} asked for"
    return [f"entries: {listed} listed{first}, {len(report.plain)} measured, {len(report.faults)} left out"]


def _part(report: Report) -> list[str]:
    """A remark where the measured pictures are not the whole split on which figures were published."""
    if not published.rows(report.dataset.name, *published.FIGURES):
        return []
    if report.dataset.split not in published.SPLITS:
        return [f"The published figures are not of this split: they are of the test pictures, these of {report.dataset.split}."]
    listed = len(report.dataset.entries) + len(report.dataset.faults)
    part = len(report.plain) < listed
    return [f"Only {len(report.plain)} of {listed} entries were measured; the published figures are of other pictures too."] if part else []


def _faults(report: Report) -> str:
    """Entries that were left out, and entries that were measured although something is odd, by kind."""
    noted: dict[str, list[str]] = {}
    for row in report.plain:
        for kind in dict.fromkeys(kind for kind, _ in row.notes):
            noted.setdefault(kind, []).append(row.id)
    dropped: dict[str, list[str]] = {}
    for fault in report.faults:
        dropped.setdefault(fault.kind, []).append(fault.id)
    body = [[f"left out: {kind}", str(len(ids)), DROPPED[kind], _some(ids)] for kind, ids in dropped.items()]
    body += [[f"noted: {kind}", str(len(ids)), NOTED[kind], _some(ids)] for kind, ids in noted.items()]
    return f"## Entries\n\n{grid(['what', 'entries', 'meaning', 'ids'], body)}" if body else ""


def _localisation(report: Report) -> str:
    counts = controller.overlaps(report.plain)
    if not counts:
        return ""
    names = (*PER_PICTURE, *POOLED)
    body = [[MEASURED, str(len(counts)), *map(percent, controller.localisation(counts).values()), "", ""]]
    for name, floor in (("finds nothing (floor)", controller.finds_nothing), ("marks everything (floor)", controller.marks_everything)):
        scored = controller.estimates([floor(one) for one in counts])
        body.append([name, str(len(counts)), *(f"{100 * value:.2f}" for value in scored.values()), "", ""])
    body += _published(report.dataset, names, tuple(PER_PICTURE))
    empty = sum(one.true == 0 for one in counts)
    note = f"\n\n{empty} of the pictures have an empty truth." if empty else ""
    return f"## Localisation\n\n{grid(['', 'pictures', *names, 'source', 'caveat'], body)}{note}"


def _published(dataset: Dataset, names: Sequence[str], wanted: Sequence[str]) -> list[list[str]]:
    """Rows of others; where this is another split than theirs, each of them says so."""
    other = "" if dataset.split in published.SPLITS else "another split"
    rows = [(row, "; ".join(filter(None, (other, row.caveat)))) for row in published.rows(dataset.name, *wanted)]
    return [[row.method, "", *(_printed(row.figures.get(name)) for name in names), row.source, caveat] for row, caveat in rows]


def _groups(report: Report) -> str:
    """Means per group, their plain mean, and their mean weighted by pictures."""
    groups = controller.by_group(report.plain)
    if len(groups) < 2:
        return ""
    everything = controller.overlaps([row for row in report.plain if row.groups])
    body = [_measures(name, counts) for name, counts in groups.items()]
    body.append(["mean over groups", "", *(percent(controller.plain_mean(groups, name)) for name in PER_PICTURE)])
    body.append(_measures("mean over pictures (weighted by size)", everything))
    return f"## By group\n\n{grid(['group', 'pictures', *PER_PICTURE], body)}"


def _measures(name: str, counts: Sequence[Overlap]) -> list[str]:
    found = controller.localisation(counts)
    return [name, str(len(counts)), *(percent(found[measure]) for measure in PER_PICTURE)]


def _alarms(report: Report) -> str:
    shares = controller.alarms(report.plain)
    if "clean called clean" not in shares:
        return ""
    clean = sum(row.clean for row in report.plain)
    faulty = sum(not row.clean and bool(row.true) for row in report.plain)
    sizes = {"clean called clean": clean, "faulty called faulty": faulty}
    body = [[name, str(sizes[name]), percent(share)] for name, share in shares.items()]
    return f"## False alarms\n\n{grid(['', 'pictures', 'share'], body)}"


def _explanation(report: Report) -> str:
    found = controller.explanation(report.plain)
    if not found:
        return ""
    names = ("ROUGE-L", "ROUGE-L of the faults", "CSS")
    count = sum(row.rouge_l is not None for row in report.plain)
    body = [[MEASURED, str(count), *(percent(found.get(name)) for name in names), "", ""]]
    body += _published(report.dataset, names, ("ROUGE-L", "CSS"))
    note = "" if "CSS" in found else "\n\nCSS was not measured: it needs a sentence encoder (--encoder)."
    return f"## Explanation\n\n{grid(['', 'pictures', *names, 'source', 'caveat'], body)}{note}"


def _detection(report: Report) -> str:
    """Accuracy and average precision per generator, their mean, and the paper's groups where they are complete."""
    rows = [row for row in report.plain if row.fake is not None]
    if not rows:
        return ""
    if any(row.fake_probability is None for row in rows):
        silent = sum(row.fake_probability is None for row in rows)
        return f"## Detection\n\nNot measured: the controller gave no probability for {silent} of {len(rows)} pictures."
    names = sorted({name for row in rows for name in row.groups}) if report.dataset.name == "UniversalFakeDetect" else []
    found = {name: _detected([row for row in rows if name in row.groups]) for name in names}
    body = [_detection_row(name, one) for name, one in (found or {"all": _detected(rows)}).items()]
    if len(found) > 1:
        precisions = [one.precision.estimate for one in found.values() if one.precision]
        average = f"{100 * float(np.mean(precisions)):.2f}" if len(precisions) == len(found) else NONE
        body.append(["mean over generators", "", percent(mean_accuracy(list(found.values()))), "", "", average])
    text = f"## Detection\n\n{grid(['generator', 'pictures', 'accuracy', 'real', 'fake', 'average precision'], body)}"
    return f"{text}\n\n{_paper_groups(found)}" if found else text


def _detected(rows: Sequence[Row]) -> Detection:
    return detection([row.fake_probability or 0.0 for row in rows], [bool(row.fake) for row in rows])


def _detection_row(name: str, one: Detection) -> list[str]:
    shares = ("" if share is None else f"{100 * share:.2f}" for share in (one.real, one.fake))
    return [name, str(one.images), percent(one.accuracy), *shares, percent(one.precision)]


def _paper_groups(found: Mapping[str, Detection]) -> str:
    groups = published.DETECTION_GROUPS
    complete = {name: [found[one] for one in members] for name, members in groups.items() if set(members) <= set(found)}
    cells = [percent(mean_accuracy(complete[name])) if name in complete else NONE for name in groups]
    body = [[MEASURED, *cells], *([method, *map(_printed, figures)] for method, figures in published.DETECTION.items())]
    note = f"Accuracy; the rows below the first are from {published.DETECTION_SOURCE}. {published.DETECTION_CAVEAT}"
    return f"{grid(['', *groups], body)}\n\n{note} A group of which a generator is missing is left open."


def _robustness(report: Report) -> str:
    """Each condition beside the undisturbed pictures: the change is over the same pictures."""
    worse = {name: rows for name, rows in report.rows.items() if name != UNTOUCHED and controller.overlaps(rows)}
    if not worse:
        return ""
    body = []
    for name, rows in {UNTOUCHED: report.plain, **worse}.items():
        found = controller.localisation(controller.overlaps(rows))
        changes = [NONE if name == UNTOUCHED else percent(controller.change(report.plain, rows, one)) for one in ("mIoU", "F1")]
        others = [_copied(report.dataset.name, name, method) for method in COMPARED]
        body.append([name, str(len(controller.overlaps(rows))), percent(found["mIoU"]), percent(found["F1"]), *changes, *others])
    heads = ["condition", "pictures", "mIoU", "F1", "change of mIoU", "change of F1", *(f"{method}, mIoU / F1" for method in COMPARED)]
    is_published = bool(published.rows(report.dataset.name, "F1", condition="jpeg:50"))
    note = f"\n\nThe columns of {' and '.join(COMPARED)} are copied from {published.PAPER}, table 10." if is_published else ""
    return f"## Robustness\n\n{grid(heads, body)}{note}"


def _copied(dataset: str, condition: str, method: str) -> str:
    """The printed mIoU and F1 of a method under a condition."""
    rows = [row for row in published.rows(dataset, "F1", condition=condition) if row.method == method and "table 10" in row.source]
    return f"{rows[0].figures['mIoU']:.2f} / {rows[0].figures['F1']:.2f}" if rows else NONE


def percent(value: Interval | None) -> str:
    """``54.62 [53.10, 56.05]``; without the interval where there is none."""
    if value is None:
        return NONE
    text = f"{100 * value.estimate:.2f}"
    return text if math.isnan(value.low) else f"{text} [{100 * value.low:.2f}, {100 * value.high:.2f}]"


def _printed(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")


def grid(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A markdown table; a bar in a cell is escaped."""
    rows = [heads, ["---"] * len(heads), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows)
