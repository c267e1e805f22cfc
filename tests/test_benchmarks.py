"""The benchmarks run end to end on the painter and the oracle, go on where they stopped, and refuse to mix configurations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from benchmarks import common, gate, generator, loop, losses, recipe, repair, sharing
from refine.engine import Engine
from refine.errors import InputError, OutputError
from refine.evals.judge import Config, Judge
from refine.gate import Gate
from refine.policy import Budget, Policy
from refine.reviser import TemplateReviser
from refine.stages import Models
from refine.stilllife.oracle import Likeness, Oracle, Painter

SEEDS = range(2_000_000, 2_000_004)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge that knows nothing yet."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("judge")
    Judge(Config((4, 6, 8, 8))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bench(judge: Path) -> common.Bench:
    """A loop that repairs everything: its controller knows the clean pictures of the held-out prompts."""
    prompts = [common.scene_and_prompt(seed, False)[1] for seed in SEEDS]
    models = Models(Painter(skill=1.0), Oracle(prompts), (Likeness(),), TemplateReviser(phrase=False, negative=False, quality=""))
    return common.Bench(models, Judge.from_pretrained(judge), Policy(), Gate(), Budget(), 2)


def options(judge: Path, out: Path, *more: str) -> list[str]:
    return ["--preset", "painter", "--judge", str(judge), "--out", str(out), *more]


def strings(rows: list[common.Row]) -> list[dict[str, str]]:
    """Rows as a CSV gives them back."""
    return [{name: str(value) for name, value in row.items()} for row in rows]


def test_generator_goes_on_where_it_stopped(judge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator.main(options(judge, tmp_path, "--n", "2"))
    first = (tmp_path / "generator.csv").read_text()
    generator.main(options(judge, tmp_path, "--n", "4"))
    assert (tmp_path / "generator.csv").read_text().startswith(first)
    assert "n = 4" in capsys.readouterr().out
    assert [int(row["seed"]) for row in common.read(tmp_path / "generator.csv")] == list(SEEDS)
    assert "every attribute right" in (tmp_path / "generator.md").read_text()


def test_another_configuration_is_refused(judge: Path, tmp_path: Path) -> None:
    generator.main(options(judge, tmp_path, "--n", "2"))
    with pytest.raises(OutputError, match="another generator"):
        generator.main(options(judge, tmp_path, "--n", "2", "--set", "generator.skill=0.5"))


def test_one_image_is_no_sample(judge: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2"):
        generator.main(options(judge, tmp_path, "--n", "1"))


@pytest.mark.parametrize("mode", list(repair.MODES))
def test_every_mode_runs_from_the_command_line(mode: str, judge: Path, tmp_path: Path) -> None:
    repair.main([mode, *options(judge, tmp_path, "--n", "2")])
    assert len(common.read(tmp_path / f"repair-{mode}.csv")) == 2
    assert "repairs accepted / tried" in (tmp_path / f"repair-{mode}.md").read_text()


def test_repaired_pictures_are_counted(bench: common.Bench) -> None:
    rows = strings(repair.on_prompts(bench, SEEDS, False))
    assert all(row["stop"] == "clean" for row in rows)
    assert all(float(row["accepted"]) >= 1 for row in rows)
    assert common.column(rows, "repaints").tolist() == common.column(rows, "identical").tolist()
    gains = common.column(rows, "reward_before:likeness", "reward_after:likeness")
    assert (gains[:, 1] > gains[:, 0]).all()
    names = [name for name, _ in repair.summarise_prompts(rows)]
    assert "artifact area, relative change" in names
    assert "likeness (steered)" in names


def test_error_against_truth(bench: common.Bench) -> None:
    rows = strings(repair.on_damaged(bench, SEEDS, False))
    assert (common.column(rows, "inside_before") > 0).all()
    assert (common.column(rows, "outside_before") == 0).all()
    assert all(row["kinds"] for row in rows)


def test_clean_pictures_of_the_oracle_stay(bench: common.Bench) -> None:
    patient = dataclasses.replace(bench, policy=Policy(threshold=2.0))
    blind = repair.on_clean(patient, SEEDS, False)
    assert [row["changed"] for row in blind] == [0.0] * len(SEEDS)


def test_half_written_rows_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    common.append(path, [{"seed": 1, "area": 0.5}, {"seed": 2, "area": 0.25}])
    path.write_text(path.read_text() + "3")
    assert [row["seed"] for row in common.read(path)] == ["1", "2"]
    assert common.column(common.read(path), "area").tolist() == [0.5, 0.25]


def test_every_second_of_the_loop_is_a_models_or_its_own(bench: common.Bench) -> None:
    rows = dict(loop.speed(Engine(bench.models, bench.policy, bench.gate, Budget(rounds=1)), 2, SEEDS[0], 1))
    shares = [float(text.removesuffix(" %")) for name, text in rows.items() if "share" in name]
    assert len(shares) == 5 and all(share >= 0 for share in shares)
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert float(rows["lockstep is faster by"].split()[0]) > 0


@pytest.fixture(scope="module")
def all_seeing(judge: Path) -> common.Bench:
    """A loop whose controller knows the clean pictures of the damaged renders, and whose painter never fails."""
    captions = [repair.damaged(seed, False).caption for seed in SEEDS]
    models = Models(Painter(skill=1.0), Oracle(captions), (Likeness(),), TemplateReviser(phrase=False, negative=False, quality=""))
    return common.Bench(models, Judge.from_pretrained(judge), Policy(), Gate(), Budget(), 2)


def test_every_level_of_error_is_booked_once(all_seeing: common.Bench) -> None:
    """Who finds nothing loses everything as not found; who sees all loses nothing there."""
    blind = dataclasses.replace(all_seeing, policy=Policy(threshold=2.0))
    for bench, share in ((blind, 1.0), (all_seeing, 0.0)):
        rows = strings(losses.make(bench, SEEDS, False))
        before, books = common.column(rows, "before"), common.column(rows, *losses.BOOKS)
        assert books.sum(1) == pytest.approx(before)
        assert common.column(rows, "not_found") == pytest.approx(share * before)
        assert len(losses.summarise(rows)) > len(losses.BOOKS)
    assert "missed" not in " ".join(row["faults"] for row in rows), "the oracle finds every fault"


def test_gates_are_compared_on_the_same_candidates(all_seeing: common.Bench) -> None:
    tried, total = gate.collect(all_seeing, SEEDS, False)
    assert tried and total > 0
    assert all(len(one.options) == len(gate.DRAWS) for one in tried)
    rows = dict(gate.compared(tried, total, all_seeing.gate))
    shares = {name: float(text.split(",")[1].removesuffix(" %")) for name, text in rows.items()}
    assert shares["as configured"] == shares["gate.rise 0.001"] == shares["gate.fall 0.3"] == shares["order: both, as shipped"]
    assert shares["no gate, truth chooses"] >= max(shares.values()) - 1e-9
    assert int(rows["gate.fall 0.5"].split()[0]) <= int(rows["gate.fall 0.0"].split()[0])


def test_what_a_bench_shares_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sharing.main(["--n", "2", "--preset", "painter", "--arm", "ours", "--out", str(tmp_path)])
    assert "| every number and picture equal | yes |" in capsys.readouterr().out


def test_a_filled_mask_knows_only_its_surroundings() -> None:
    sample = repair.damaged(SEEDS[0], False)
    mask = sample.regions[0].mask
    begun = recipe.filled(sample.image, mask)
    spoilt = PIL.Image.fromarray(np.where(mask[..., None], np.uint8(7), np.asarray(sample.image)))
    assert recipe.filled(spoilt, mask).tobytes() == begun.tobytes()
    assert (np.asarray(begun) == np.asarray(sample.image))[~mask].all()
