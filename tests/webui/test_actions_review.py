"""Approval: nothing is approved unseen, every decision says who, when and what was checked, and figures come back."""

import json
import sys

import pytest
from PIL import Image

from lora_diffusion import Details, Lineage
from webui.actions import act, as_json
from webui.actions.review import CHECKS, SHOWN
from webui.errors import BadRequest, NotAllowed
from webui.jobs import Jobs
from webui.users import User

WHEN = "2026-01-02T03:04:05+00:00"
ADA = User(name="Ada", role="approver")
TIM = User(name="Tim", role="trainer")
EVE = User(name="Eve", role="viewer")


@pytest.fixture
def desk(studio, shipped, tmp_path):
    """A version in review with licence, sample, and two training pictures of a set in the studio."""
    studio.__dict__["jobs"] = Jobs(studio.home / "jobs.db", keeper=(sys.executable, "-c", "pass"))
    folder = studio.home / "runs" / "r1.pictures" / "taught"
    folder.mkdir(parents=True)
    for name in ("a.png", "c.png"):
        Image.new("RGB", (64, 64), "red").save(folder / name)
    (folder / "rights.csv").write_text("file,owner,licence,source,consent,expires\n*,Mia,CC0-1.0,,,\n")
    lineage = Lineage(
        manifest=(("a" * 64, "a.png"), ("c" * 64, "c.png"), ("d" * 64, "gone.png")),
        plan=f"[data]\nfolder = {json.dumps(str(folder))}\n",
        method="train",
    )
    version = studio.library.add(
        shipped / "papercut.safetensors", name="Spring", by="Mia", when=WHEN,
        details=Details(licence="CC0-1.0", trigger="papercut"), lineage=lineage,
    )  # fmt: skip
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "sample.png")
    studio.library.add_sample(version.ref, tmp_path / "sample.png", by="Mia", when=WHEN, prompt="a <b>rocket</b>")
    studio.library.promote(version.ref, "in_review", by="Mia", when=WHEN, reason="please look")
    return studio


def do(studio, user, name, /, **arguments):
    return act(studio, user, f"review.{name}", **{"ref": "Spring@1", **arguments})


def stored(studio, **changes):
    """Write what `evaluate` leaves for the shipped adapter."""
    score = {
        "value": 82.0,
        "unit": "of 100",
        "tone": "good",
        "verdict": "fine",
        "missing": "",
        "by_weight": {"1": 82.0},
    }
    copies = {**score, "value": 0.2, "unit": "of usual distance", "tone": "bad", "details": {}}
    fingerprint = studio.library.version("Spring@1").fingerprint
    found = {
        "format": 1, "adapter": {"fingerprint": fingerprint}, "best_weight": 0.8, "best_weight_reason": "it is close",
        "scores": {"style_match": {**score, "details": {}}, "memorisation": copies}, "notes": [], "prompts": ["a", "c"],
        **changes,
    }  # fmt: skip
    folder = studio.home / "evaluations" / fingerprint
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(found))


def test_the_queue_has_a_new_version_also_while_its_name_means_an_approved_one(desk, shipped):
    do(desk, ADA, "approve", checks=CHECKS)
    version = desk.library.add(shipped / "blueprint.safetensors", name="Spring", by="Mia", when=WHEN)
    desk.library.promote(version.ref, "in_review", by="Mia", when=WHEN)
    assert desk.library.version("Spring").ref == "Spring@1"
    assert [each.ref for each in act(desk, EVE, "review.queue")] == ["Spring@2"]


def test_what_is_judged_holds_training_pictures_samples_and_the_state_of_rights(desk):
    found = do(desk, EVE, "show")
    assert [(name, path.name) for name, path in found.references] == [("a.png", "a.png"), ("c.png", "c.png")]
    assert [each.prompt for each in found.samples] == ["a <b>rocket</b>"]
    assert (found.rights.pictures, found.rights.known, found.rights.missing, found.rights.expired) == (3, 2, 0, 0)
    assert found.figures is None
    assert found.measuring is None
    json.dumps(as_json(found))


def test_approving_keeps_who_when_and_what_was_checked(desk):
    version = do(desk, ADA, "approve", checks=CHECKS, comment="The red is right now.")
    assert version.stage == "approved"
    assert version.current
    event = desk.library.history("Spring@1", limit=1)[0]
    assert event.by == "Ada"
    assert event.reason == "checked: rights, samples, trigger, copies, licence. The red is right now."
    last = do(desk, EVE, "log")[-1]
    assert (last.by, last.what, last.text, last.checks) == ("Ada", "approved", "The red is right now.", CHECKS)
    assert last.at > WHEN


@pytest.mark.parametrize("lacking", CHECKS)
def test_nothing_is_approved_with_a_check_left_out(desk, lacking):
    with pytest.raises(BadRequest, match=f"not checked yet: {lacking}"):
        do(desk, ADA, "approve", checks=[each for each in CHECKS if each != lacking])
    assert desk.library.version("Spring@1").stage == "in_review"


def test_a_style_without_a_licence_is_not_approved_whatever_is_ticked(desk):
    desk.library.describe("Spring@1", by="Mia", when=WHEN, licence=" ")
    with pytest.raises(BadRequest, match="states no licence"):
        do(desk, ADA, "approve", checks=CHECKS)


def test_a_style_that_nobody_saw_draw_is_not_approved(desk, shipped):
    version = desk.library.add(
        shipped / "blueprint.safetensors", name="Blue", by="Mia", when=WHEN, details=Details(licence="CC0-1.0")
    )
    desk.library.promote(version.ref, "in_review", by="Mia", when=WHEN)
    with pytest.raises(BadRequest, match="no samples"):
        do(desk, ADA, "approve", ref=version.ref, checks=CHECKS)


def test_against_copies_that_were_measured_an_approval_has_to_be_explained(desk):
    stored(desk)
    with pytest.raises(BadRequest, match="copied training pictures"):
        do(desk, ADA, "approve", checks=CHECKS, comment="  ")
    assert do(desk, ADA, "approve", checks=CHECKS, comment="It is our own logo.").stage == "approved"


def test_against_rights_that_expired_an_approval_has_to_be_explained(desk):
    table = desk.home / "runs" / "r1.pictures" / "taught" / "rights.csv"
    table.write_text("file,owner,licence,source,consent,expires\na.png,Mia,CC0-1.0,,,2020-01-31\n")
    rights = do(desk, EVE, "show").rights
    assert (rights.missing, rights.expired) == (1, 1)
    with pytest.raises(BadRequest, match="rights are missing for 1 pictures, expired for 1"):
        do(desk, ADA, "approve", checks=CHECKS)


def test_a_blocked_style_is_not_approved(desk):
    desk.library.withdraw("a" * 64, by="Mia", when=WHEN, reason="consent was taken back")
    with pytest.raises(Exception, match="blocked and cannot be approved"):
        do(desk, ADA, "approve", checks=CHECKS, comment="all the same")
    assert desk.library.version("Spring@1").stage == "in_review"


def test_sending_back_needs_a_word_and_keeps_it(desk):
    for empty in ("", "  \n"):
        with pytest.raises(BadRequest, match="without a word"):
            do(desk, ADA, "send_back", comment=empty)
    assert do(desk, ADA, "send_back", comment="Too dark <script>").stage == "draft"
    last = do(desk, EVE, "log")[-1]
    assert (last.by, last.what, last.text) == ("Ada", "sent_back", "Too dark <script>")


def test_only_approvers_decide(desk):
    for name, arguments in {"approve": {"checks": CHECKS}, "send_back": {"comment": "no"}}.items():
        with pytest.raises(NotAllowed):
            do(desk, TIM, name, **arguments)
    with pytest.raises(NotAllowed):
        do(desk, EVE, "measure")


def test_what_is_decided_is_not_decided_again(desk):
    do(desk, ADA, "approve", checks=CHECKS)
    for name, arguments in {"approve": {"checks": CHECKS}, "send_back": {"comment": "no"}}.items():
        with pytest.raises(BadRequest, match="is approved"):
            do(desk, ADA, name, **arguments)


def test_the_log_tells_talk_and_moves_in_their_order(desk):
    act(desk, ADA, "library.comment", ref="Spring@1", text="Nice")
    do(desk, ADA, "send_back", comment="but too dark")
    assert [each.what for each in do(desk, EVE, "log")] == ["handed_in", "comment", "sent_back"]


def test_the_figures_that_are_shown_are_measured():
    from lora_diffusion.evaluation.metrics import metrics

    assert set(SHOWN) <= {each.name for each in metrics()}


def test_figures_are_found_by_the_weights_of_a_version(desk):
    assert do(desk, EVE, "figures") is None
    stored(desk)
    found = do(desk, EVE, "figures")
    assert (found.best, found.reason, found.score("style_match").value) == (0.8, "it is close", 82.0)
    assert found.copied
    found.page.write_text("<html>")
    assert desk.files.share(found.page).startswith("/files/")
    desk.library.rename("Spring", "Summer", by="Mia", when=WHEN)
    assert do(desk, EVE, "figures", ref="Summer@1").best == 0.8


@pytest.mark.parametrize("wrong", [{"format": 2}, {"adapter": {"fingerprint": "0" * 64}}])
def test_figures_of_another_kind_or_adapter_count_as_none(desk, wrong):
    stored(desk, **wrong)
    assert do(desk, EVE, "figures") is None


def test_a_measurement_is_one_job_that_compares_with_the_pictures_taught(desk):
    row = do(desk, TIM, "measure", prompts=2)
    assert do(desk, TIM, "measure").id == row.id
    assert do(desk, EVE, "show").measuring.state == "queued"
    words = desk.jobs.get(row.id).command
    assert words[0] == "evaluate"
    assert words[words.index("--base") + 1] == "demo"
    assert words[words.index("--data") + 1] == str(desk.home / "runs" / "r1.pictures" / "taught")
    assert words[words.index("--prompts") + 1] == "2"
