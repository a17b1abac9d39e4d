"""Pictures that a plan names and that cannot be used stop it before anything is loaded; a result is never lost."""

import pytest

from lora_diffusion.errors import PlanError
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.training import loop
from lora_diffusion.training.events import Validated
from tests import tiny


def broken(folder):
    folder.mkdir()
    (folder / "a.png").write_bytes(b"<html>")
    return folder


@pytest.mark.parametrize("setting", ["validation.folder", "data.regularisation"])
def test_a_folder_of_broken_files_is_refused_before_anything_is_written(base, pictures, tmp_path, setting):
    plan = tiny.plan(base, pictures, tmp_path / "out", f"{setting}={broken(tmp_path / 'none')}")
    with pytest.raises(PlanError, match=rf"no picture in .*none, which {setting} names, can be used"):
        loop.train(plan)
    assert not (tmp_path / "out").exists()


def test_what_fails_after_the_last_step_does_not_cost_the_adapter(base, pictures, tmp_path):
    def fails(event):
        if isinstance(event, Validated):
            raise OSError(28, "No space left on device")

    more = ("run.steps=2", f"validation.folder={pictures}", "run.snapshot_every=0")
    with pytest.raises(OSError, match="No space"):
        loop.train(tiny.plan(base, pictures, tmp_path / "out", *more), on_event=fails)
    assert len(read_adapter(tmp_path / "out" / "adapter.safetensors").modules) == 40
