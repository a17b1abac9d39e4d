"""What a run says about its adapter: what it drew last, and whose its pictures are."""

import json

from PIL import Image

from lora_diffusion.library import rights_of_run, samples_of_run


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


def test_the_rights_that_all_pictures_share_are_those_of_the_style(tmp_path):
    def stated(*rights: dict[str, str]) -> dict[str, str]:
        rows = [{"file": f"{number}.png", "rights": each} for number, each in enumerate(rights)]
        (tmp_path / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return rights_of_run(tmp_path)

    ours = {"owner": "ACME", "licence": "CC0", "expires": "2027-01-01"}
    assert stated(ours, {**ours, "expires": "2026-12-31"}) == {**ours, "expires": "2026-12-31"}
    assert stated(ours, {**ours, "licence": "MIT"}) == {"owner": "ACME", "expires": "2027-01-01"}
    assert stated(ours, {}) == {"expires": "2027-01-01"}
    assert stated({}, {}) == {}
    assert rights_of_run(tmp_path / "nowhere") == {}
