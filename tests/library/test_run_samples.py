"""What a run drew last shows its adapter in the library."""

from PIL import Image

from lora_diffusion.library import samples_of_run


def drawn(run, *names):
    (run / "previews").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (8, 8), "red").save(run / "previews" / f"{name}.png")


def test_the_last_previews_are_the_samples_with_their_prompts_and_seeds(tmp_path):
    drawn(tmp_path, "step-00000090-0", "step-00000090-1", "step-00000100-0", "step-00000100-1")
    (tmp_path / "plan.toml").write_text('[previews]\nprompts = ["a fox", "a house"]\nseed = 7\n')
    found = samples_of_run(tmp_path)
    assert [each.path.stem for each in found] == ["step-00000100-0", "step-00000100-1"]
    assert [(each.prompt, each.seed) for each in found] == [("a fox", 7), ("a house", 8)]


def test_prompts_that_came_from_captions_are_left_empty(tmp_path):
    drawn(tmp_path, "step-00000100-0")
    (tmp_path / "plan.toml").write_text("[previews]\nevery = 100\n")
    assert [(each.prompt, each.seed) for each in samples_of_run(tmp_path)] == [("", 0)]


def test_a_run_that_drew_nothing_has_no_samples(tmp_path):
    assert samples_of_run(tmp_path) == ()
