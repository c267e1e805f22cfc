"""Figures that others published, to stand beside a measured row: never measured here, never part of a measurement.

In percent, as printed; a mean over printed figures says so. ``caveat``: why a row may not compare with a measurement on public files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PAPER = "arXiv 2503.15264"
SPLITS = ("test", "all")  # what figures were published for
FIGURES = ("mIoU", "F1", "foreground IoU", "ROUGE-L", "CSS")

TUNED = "fine-tuned on SynthScars' training split"
FLOODS = "marks most of the picture; left out of the paper's ranking"
BOXES = "draws boxes"
WEIGHTED = "mean of the paper's four categories, weighted by their pictures"
NO_LIST: Mapping[str, str] = {
    "LOKI": "112 pictures, list not published",
    "RichHF-18K": "471 pictures, list not published",
}


@dataclass(frozen=True, slots=True)
class Published:
    """One row: who, on what, which figures (percent), where it was printed, and why it may not compare."""

    method: str
    dataset: str
    figures: Mapping[str, float]
    source: str
    caveat: str = ""
    condition: str = "none"


def _table_2() -> list[Published]:
    """Localisation outside SynthScars: mIoU/F1 on LOKI and on RichHF-18K."""
    rows: list[tuple[str, str, tuple[float, float], tuple[float, float]]] = [
        ("HiFi-Net", "", (39.60, 2.41), (44.96, 0.39)),
        ("TruFor", "", (46.55, 16.70), (48.41, 18.03)),
        ("PAL4VST", TUNED, (47.34, 11.58), (49.88, 14.78)),
        ("Ferret", f"{BOXES}; {FLOODS}", (24.50, 18.88), (26.52, 16.22)),
        ("Griffon", f"{BOXES}; {FLOODS}", (21.96, 20.41), (28.13, 18.19)),
        ("LISA-v1-7B", TUNED, (31.10, 9.29), (35.90, 21.94)),
        ("InternVL2-8B", BOXES, (42.03, 10.06), (39.90, 9.58)),
        ("Qwen2-VL-72B", f"{BOXES}; {FLOODS}", (26.62, 20.99), (27.58, 19.02)),
        ("LEGION", "", (48.66, 16.71), (50.07, 17.41)),
    ]
    return [
        Published(method, name, {"mIoU": miou, "F1": f1}, f"{PAPER}, table 2", "; ".join(filter(None, (NO_LIST[name], note))))
        for method, note, loki, richhf in rows
        for name, (miou, f1) in (("LOKI", loki), ("RichHF-18K", richhf))
    ]


# The paper's SynthScars figures by content: object, animal, human, scene, with 162, 134, 587 and 117 test pictures. The released file
# does not say which picture is which, so only their mean can stand beside a measurement.
CONTENT = (162, 134, 587, 117)
BY_CONTENT: Mapping[str, tuple[tuple[float, float], ...]] = {
    "HiFi-Net": ((43.74, 0.45), (45.28, 0.03), (46.21, 0.84), (45.90, 0.04)),
    "TruFor": ((46.99, 14.82), (48.45, 17.57), (49.02, 15.43), (48.93, 12.64)),
    "PAL4VST": ((50.46, 19.25), (52.55, 21.61), (59.18, 35.70), (52.55, 19.14)),
    "Ferret": ((30.10, 20.81), (27.17, 15.78), (25.54, 13.87), (30.64, 13.79)),
    "Griffon": ((38.54, 23.40), (27.76, 18.58), (23.04, 14.81), (35.83, 14.47)),
    "LISA-v1-7B": ((35.49, 23.70), (32.44, 18.77), (34.11, 17.50), (37.56, 18.31)),
    "InternVL2-8B": ((41.08, 13.36), (41.22, 7.83), (41.21, 3.91), (41.68, 7.55)),
    "Qwen2-VL-72B": ((33.89, 23.25), (32.46, 21.98), (26.92, 14.75), (39.00, 18.17)),
    "LEGION": ((54.62, 29.90), (54.52, 27.43), (60.82, 39.44), (53.67, 24.51)),
}
NOTES: Mapping[str, str] = {
    "PAL4VST": TUNED,
    "LISA-v1-7B": TUNED,
    "Ferret": f"{BOXES}; {FLOODS}",
    "Griffon": f"{BOXES}; {FLOODS}",
    "InternVL2-8B": BOXES,
    "Qwen2-VL-72B": f"{BOXES}; {FLOODS}",
}


def _synthscars() -> list[Published]:
    """Size-weighted means over the four categories: what a mean over all 1,000 test pictures compares with."""
    rows = []
    for method, columns in BY_CONTENT.items():
        miou, f1 = (sum(n * pair[i] for n, pair in zip(CONTENT, columns, strict=True)) / sum(CONTENT) for i in (0, 1))
        caveat = "; ".join(filter(None, (WEIGHTED, NOTES.get(method, ""))))
        rows.append(Published(method, "SynthScars", {"mIoU": round(miou, 2), "F1": round(f1, 2)}, f"{PAPER}, table 2", caveat))
    return rows


def _table_3() -> list[Published]:
    rows: list[tuple[str, tuple[float, float], tuple[float, float]]] = [
        ("Qwen2-VL-72B", (25.84, 58.15), (11.80, 37.64)),
        ("LLaVA-v1.6-7B", (29.61, 61.75), (16.07, 41.07)),
        ("InternVL2-8B", (25.93, 56.89), (10.10, 39.62)),
        ("DeepSeek-VL2-27B", (25.50, 47.77), (6.70, 28.76)),
        ("GPT-4o", (22.43, 53.55), (9.61, 38.98)),
        ("LEGION", (39.50, 72.60), (18.55, 45.96)),
    ]
    return [
        Published(method, name, {"ROUGE-L": rouge, "CSS": css}, f"{PAPER}, table 3", caveat)
        for method, scars, loki in rows
        for name, (rouge, css), caveat in (
            ("SynthScars", scars, "the paper's ROUGE-L implementation is not published"),
            ("LOKI", loki, "the paper's pictures and reference texts are not published"),
        )
    ]


def _table_10() -> list[Published]:
    conditions = ("none", "jpeg:50", "jpeg:35", "jpeg:20", "noise:0.1", "noise:0.2", "noise:0.3", "blur:5", "blur:9", "blur:15")
    columns: Mapping[str, tuple[tuple[float, float], ...]] = {
        "PAL4VST": (
            (56.10, 29.21), (55.95, 28.85), (55.55, 27.60), (55.01, 26.36), (56.01, 28.96),
            (54.42, 25.16), (52.91, 21.11), (55.62, 27.76), (54.58, 25.23), (53.24, 22.30),
        ),
        "LEGION": (
            (59.41, 36.96), (57.78, 33.97), (58.04, 34.08), (57.91, 34.28), (57.31, 33.00),
            (56.77, 32.52), (56.49, 32.12), (57.75, 33.78), (57.27, 32.63), (57.50, 33.52),
        ),
    }  # fmt: skip
    odd = "its undisturbed row does not agree with the same paper's table 2"
    return [
        Published(method, "SynthScars", {"mIoU": miou, "F1": f1}, f"{PAPER}, table 10", odd if method == "LEGION" else "", condition)
        for method, pairs in columns.items()
        for condition, (miou, f1) in zip(conditions, pairs, strict=True)
    ]


def _artiagent() -> list[Published]:
    """Foreground IoU and F1 on binary maps, from ArtiAgent's paper (CVPR 2026), table 3b."""
    rows: list[tuple[str, tuple[float, float], tuple[float, float], tuple[float, float]]] = [
        ("PAL4VST", (7.9, 2.8), (2.1, 3.7), (3.5, 5.3)),
        ("DiffDoctor", (7.7, 13.9), (17.5, 27.4), (8.3, 13.6)),
        ("LEGION (public weights)", (6.7, 11.2), (10.0, 15.8), (10.6, 15.2)),
        ("GPT-5", (12.6, 14.6), (8.9, 14.1), (11.7, 18.5)),
        ("Qwen2.5-VL-7B + ArtiAgent", (11.9, 19.8), (12.9, 19.8), (13.7, 21.4)),
        ("InternVL3.5-8B + ArtiAgent", (10.0, 17.0), (12.6, 19.6), (14.0, 21.7)),
    ]
    return [
        Published(method, name, {"foreground IoU": iou, "F1": f1}, "ArtiAgent (CVPR 2026), table 3b", "another protocol: see its paper")
        for method, *figures in rows
        for name, (iou, f1) in zip(("RichHF-18K", "LOKI", "SynthScars"), figures, strict=True)
    ]


ROWS: tuple[Published, ...] = (*_synthscars(), *_table_2(), *_table_3(), *_table_10(), *_artiagent())

# Table 5, accuracy; trained on ProGAN. Its columns are groups of UniversalFakeDetect's 19 generators.
DETECTION_GROUPS: Mapping[str, tuple[str, ...]] = {
    "GANs": ("progan", "cyclegan", "biggan", "stylegan", "gaugan", "stargan"),
    "Deepfakes": ("deepfake",),
    "CRN": ("crn",),
    "IMLE": ("imle",),
    "SITD": ("seeingdark",),
    "SAN": ("san",),
    "Diffusion": ("guided", "ldm_200", "ldm_200_cfg", "ldm_100", "glide_100_27", "glide_50_27", "glide_100_10", "dalle"),
}
DETECTION_SOURCE = f"{PAPER}, table 5"
DETECTION_CAVEAT = "The paper does not say how it averages within GANs and within Diffusion; here it is the plain mean over generators."
DETECTION: Mapping[str, tuple[float, ...]] = {
    "Co-occurrence": (75.17, 59.14, 73.06, 87.21, 68.98, 60.42, 85.53),
    "Freq-spec": (75.28, 45.18, 53.61, 50.98, 47.46, 57.12, 69.00),
    "CNNSpot": (85.29, 53.47, 86.31, 86.26, 66.67, 48.69, 58.63),
    "Patchfor": (69.97, 75.54, 72.33, 55.30, 75.14, 75.28, 72.54),
    "UniFD": (95.25, 66.60, 59.50, 72.00, 63.00, 57.50, 82.02),
    "LGrad": (89.17, 58.00, 50.74, 50.78, 62.50, 50.00, 89.79),
    "FreqNet": (94.23, 97.40, 71.92, 67.35, 88.92, 59.04, 83.34),
    "NPR": (94.16, 76.89, 50.00, 50.00, 66.94, 98.63, 94.54),
    "LEGION": (97.01, 63.37, 90.78, 98.93, 79.44, 57.76, 83.10),
}


def rows(dataset: str, *figures: str, condition: str = "none") -> list[Published]:
    """The published rows for a set that have one of these figures."""
    return [row for row in ROWS if row.dataset == dataset and row.condition == condition and any(one in row.figures for one in figures)]
