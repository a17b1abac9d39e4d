"""Exports: who may take what out of the studio, what is left out before it leaves, and what came of it."""

import json
import sys
import zipfile

import pytest
from PIL import Image
from safetensors import safe_open

from lora_diffusion import Details, Lineage, read_adapter
from lora_diffusion.errors import CorruptFile
from webui.actions import act, as_json
from webui.errors import BadRequest, NotAllowed, NotFound
from webui.jobs import Jobs
from webui.keeper import Keeper
from webui.release import file_name
from webui.users import User

WHEN = "2026-01-02T03:04:05+00:00"
TIM = User(name="Tim", role="trainer")
CLEO = User(name="Cleo", role="creator")
EVE = User(name="Eve", role="viewer")
MAIL = "ann.lee@example.com"


@pytest.fixture
def desk(studio, private, tmp_path):
    """An approved style whose file holds an address, and a draft; jobs wait until `run`."""
    studio.__dict__["jobs"] = Jobs(studio.home / "jobs.db", keeper=(sys.executable, "-c", "pass"))
    library = studio.library
    details = Details(licence="CC0-1.0", trigger="papercut", weight_low=0.6, weight_high=1.0)
    version = library.add(private, name="Spring Look", by="Mia", when=WHEN, details=details)
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "sample.png")
    library.add_sample(version.ref, tmp_path / "sample.png", by="Mia", when=WHEN, prompt="a rocket")
    for stage in ("in_review", "approved"):
        library.promote(version.ref, stage, by="Mia", when=WHEN)
    library.add(private, name="Sketch", by="Mia", when=WHEN)
    return studio


def do(studio, user, name, /, **arguments):
    return act(studio, user, f"export.{name}", **arguments)


def run(studio, user, **arguments):
    """Export and wait for it."""
    row = do(studio, user, "write", **{"ref": "Spring Look", **arguments})
    Keeper(studio.home, "files").run()
    return do(studio, user, "result", id=row.id)


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_what_would_be_left_out_is_shown_before_anything_is_written(desk):
    found = {each.key: each for each in do(desk, CLEO, "preview", ref="Spring Look", privacy="public")}
    assert MAIL in found["ss_training_comment"].value
    assert found["ss_training_comment"].reason
    assert do(desk, CLEO, "preview", ref="Spring Look", privacy="private") == []
    assert list((desk.home / "exports").iterdir()) == []


def test_a_public_file_lacks_what_gives_somebody_away_and_has_a_name_and_a_card(desk):
    found = run(desk, CLEO, privacy="public", precision="bf16")
    assert found.job.state == "done", found.job
    assert found.file.name == "Spring-Look-v1.safetensors"
    assert "ss_training_comment" in found.withheld
    assert MAIL not in json.dumps(metadata(found.file))
    assert metadata(found.file)["modelspec.title"] == "Spring Look"
    page = found.card.read_text("utf-8")
    for said in ("CC0-1.0", "0.6 to 1", "data:image/jpeg", found.sha256):
        assert said in page
    assert 0 < found.loss < 1e-2
    assert set(found.layers) == set(read_adapter(found.file).modules)
    json.dumps(as_json(found))


def test_a_private_file_for_diffusers_keeps_everything_in_full_precision(desk):
    found = run(desk, CLEO, target="diffusers", precision="fp32", privacy="private", card=False)
    assert metadata(found.file)["ss_training_comment"] == f"by {MAIL}"
    assert read_adapter(found.file).dialect == "diffusers"
    assert found.loss < 1e-6
    assert found.card is None
    assert found.withheld == ()


def test_an_archive_is_a_package_that_another_studio_takes(desk):
    found = run(desk, CLEO, target="archive")
    assert found.file.name == "Spring-Look-v1.zip"
    assert "package.json" in zipfile.ZipFile(found.file).namelist()
    assert "ss_training_comment" in found.withheld
    assert found.loss is None


def test_the_card_says_what_was_given_for_it(desk):
    found = run(desk, CLEO, licence="--licence <b>mine</b>", weight_low=-0.5, weight_high=0.25)
    page = found.card.read_text("utf-8")
    assert "--licence &lt;b&gt;mine&lt;/b&gt;" in page
    assert "-0.5 to 0.25" in page


def test_weights_that_were_emptied_are_not_on_the_card_and_half_of_them_is_refused(desk):
    page = run(desk, CLEO, weight_low="", weight_high="").card.read_text("utf-8")
    assert "0.6 to 1" in run(desk, CLEO).card.read_text("utf-8")
    assert "0.6 to 1" not in page
    jobs = desk.jobs.list()
    with pytest.raises(BadRequest, match="lacks one end"):
        do(desk, CLEO, "write", ref="Spring Look", weight_low=0.5, weight_high="")
    assert desk.jobs.list() == jobs


def test_weights_that_are_no_range_are_refused_before_the_job(desk):
    with pytest.raises(BadRequest, match="begins above its end"):
        do(desk, CLEO, "write", ref="Spring Look", weight_low=1.0, weight_high=0.5)
    assert desk.jobs.list() == []


def test_a_draft_leaves_only_through_trainers_and_its_name_says_so(desk):
    with pytest.raises(NotAllowed, match="not approved"):
        do(desk, CLEO, "write", ref="Sketch")
    with pytest.raises(NotAllowed, match="not approved"):
        act(desk, CLEO, "library.pack", ref="Sketch")
    assert not do(desk, CLEO, "allowed", ref="Sketch")
    assert run(desk, TIM, ref="Sketch", card=False).file.name == "Sketch-v1-draft.safetensors"


def test_a_viewer_exports_nothing(desk):
    assert not do(desk, EVE, "allowed", ref="Spring Look")
    for name, arguments in {"write": {"ref": "Spring Look"}, "preview": {"ref": "Spring Look"}, "list": {}}.items():
        with pytest.raises(NotAllowed):
            do(desk, EVE, name, **arguments)


def test_a_blocked_style_leaves_as_a_private_archive_of_a_trainer_and_not_otherwise(desk, private):
    lineage = Lineage(manifest=(("a" * 64, "x.png"),), method="train")
    desk.library.add(private, name="Torn", by="Mia", when=WHEN, lineage=lineage)
    desk.library.withdraw("a" * 64, by="Mia", when=WHEN, reason="consent was taken back")
    for user, target, privacy in ((TIM, "comfyui", "private"), (TIM, "archive", "team"), (CLEO, "archive", "private")):
        with pytest.raises(NotAllowed, match="consent was taken back"):
            do(desk, user, "write", ref="Torn", target=target, privacy=privacy)
    found = run(desk, TIM, ref="Torn", target="archive", privacy="private")
    assert found.file.name == "Torn-v1-blocked.zip"


def test_an_export_is_shown_to_who_made_it(desk):
    row = do(desk, CLEO, "write", ref="Spring Look")
    with pytest.raises(NotFound):
        do(desk, TIM, "result", id=row.id)
    assert [each.id for each in do(desk, CLEO, "list")] == [row.id]
    assert do(desk, TIM, "list") == []


def test_a_file_that_was_changed_is_not_exported(desk):
    path = desk.library.path("Sketch@1")
    path.chmod(0o600)
    path.write_bytes(b"no adapter at all, and of another size")
    with pytest.raises(CorruptFile, match="has been changed"):
        do(desk, TIM, "write", ref="Sketch@1")


def test_a_name_that_gives_somebody_away_is_in_no_public_file(desk):
    desk.library.rename("Sketch", "for 192.168.1.7", by="Mia", when=WHEN)
    found = run(desk, TIM, ref="for 192.168.1.7", privacy="public")
    assert found.job.state == "failed"
    assert "may not stand in a public file" in found.job.error
    assert found.job.hint
    assert found.file is None


def test_names_of_files_are_safe_everywhere(desk):
    version = desk.library.version("Spring Look")
    assert file_name(version, ".zip") == "Spring-Look-v1.zip"
