"""The GPU's benchmark, by tiny networks on the CPU: the same path from the command line to its tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import architectures, gpu, random_models
from refine.errors import OutputError
from refine.generators.quiet import quiet
from refine.types import Image

TOKENS = 16
SETTING = gpu.Setting("cpu", tiny=True, n=1, tokens=TOKENS)
TINY = ["--tiny", "--n", "1", "--tokens", str(TOKENS), "--only", "sdxl"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    gpu.main([*TINY, "--out", str(folder)])
    return folder


def test_every_stage_is_timed(out: Path) -> None:
    rows = json.loads((out / "results.json").read_text())["rows"]
    loop = rows["sdxl, all on the device"]
    assert set(loop["stages"]) == set(gpu.STAGES)
    assert all(stage["seconds"] > 0 and stage["peak"] is None for stage in loop["stages"].values())
    assert sum(stage["seconds"] for stage in loop["stages"].values()) <= loop["seconds"]
    assert rows["LEGION"]["limit"] == rows["LEGION"]["bandwidth"] / rows["LEGION"]["bytes_per_token"]
    assert rows["LEGION"]["tokens_per_second"]["plain"] > 0
    assert "the numbers mean nothing" in (out / "results.md").read_text()


def test_a_finished_row_is_kept_and_other_settings_are_refused(out: Path) -> None:
    path = out / "rows" / "sdxl, all on the device.json"
    kept = json.loads(path.read_text()) | {"seconds": 12345.0}
    path.write_text(json.dumps(kept))
    gpu.main([*TINY, "--out", str(out)])
    assert "12345.00" in (out / "results.md").read_text()
    with pytest.raises(OutputError, match="another tokens"):
        gpu.main([*TINY, "--tokens", "17", "--out", str(out)])


def test_what_does_not_fit_is_a_row(tmp_path: Path) -> None:
    def work() -> gpu.Row:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    row = gpu.measured(tmp_path / "row.json", work, "cpu")
    assert "| flux | out of memory: CUDA out of memory. Tried to allocate 2.00 GiB. |" in gpu.table({"flux": row}, gpu.identity(SETTING))
    assert gpu.measured(tmp_path / "row.json", dict, "cpu") == row


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--out", str(tmp_path)])
    assert "finds no CUDA device" in capsys.readouterr().err


def test_the_loop_of_random_models_goes_all_the_way() -> None:
    """FLUX draws, LEGION says its planted answer to the end, one region gets three candidates."""
    with quiet():
        engine = gpu.engine_of("flux", gpu.Way(), SETTING)
        record = engine.refine([gpu.PROMPT], [3])[0]
    assert [len(attempt.candidates) for turn in record.rounds for attempt in turn.attempts] == [3]
    assert set(record.first.scores) == {"hps", "imagereward"}
    legion = engine.models.controller.controller  # type: ignore[attr-defined]
    inspection = legion.look([record.first.image])[0]
    assert len(inspection.evidence) == 1, "SAM was asked"
    assert inspection.answer.startswith("<p>") and "[SEG]" in inspection.answer


@pytest.mark.parametrize("length", [6, 24])
def test_a_planted_answer_is_said_whole(length: int) -> None:
    node = {"max_new_tokens": 64, "mask_threshold": 0.0, "batch_size": 8, "sam_batch": 4, "compiled": False}
    legion = random_models.legion(lambda name: SETTING.build(name, "cpu"), node, length, tiny=True)
    wanted = random_models.answer(legion.processor.tokenizer, length, legion.processor.prompt_ids()[-1])
    assert len(wanted) == len(set(wanted)) == length
    assert legion.look([grey(40, 24)])[0].answer == legion.processor.tokenizer.decode(wanted)


def test_weights_are_the_seeds_own_and_finite() -> None:
    first, again = (SETTING.build("clip-l", "cpu").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in random_models.TINY:
        assert all(bool(weight.isfinite().all()) for weight in SETTING.build(name, "cpu").state_dict().values()), name


def test_both_sizes_have_the_same_networks() -> None:
    assert set(random_models.TINY) <= set(architectures.MAKERS)


def grey(width: int, height: int) -> Image:
    import PIL.Image

    return PIL.Image.fromarray(np.full((height, width, 3), 90, np.uint8))
