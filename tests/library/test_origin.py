"""Where versions come from, what was made of them, and what a withdrawn picture touches."""

import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.library import Lineage, lineage_of_run
from tests import tiny
from tests.library import made
from tests.library.made import ANN, BEN, IMAGES


def test_the_lineage_of_a_run_is_its_pictures_and_its_plan(base, pictures, tmp_path, library):
    from lora_diffusion.training.loop import train

    done = train(tiny.plan(base, pictures, tmp_path / "run", "run.steps=1"))
    lineage = lineage_of_run(done.run)
    assert len(lineage.manifest) == 6
    assert all(len(sha256) == 64 and file for sha256, file in lineage.manifest)
    assert "steps = 1" in lineage.plan
    version = library.add(done.adapter, name="Ink", **ANN, lineage=lineage)
    assert version.images == 6
    assert library.lineage("ink") == lineage
    assert library.trained_on(lineage.manifest[0][0]) == [version]
    with pytest.raises(UsageError, match="holds no run"):
        lineage_of_run(tmp_path)


@pytest.mark.parametrize(
    "lineage",
    [
        Lineage(manifest=(("no hash", "a.png"),)), Lineage(parents=(("ink", float("nan")),)), Lineage(plan="[run"),
        Lineage(parents=(("nobody", 1.0),)), Lineage(parents=(("../x", 1.0),)),
    ],
    ids=str,
)  # fmt: skip
def test_a_lineage_that_cannot_be_is_refused(library, files, lineage):
    with pytest.raises(UsageError):
        library.add(files[0], name="Ink", **ANN, lineage=lineage)
    assert library.versions() == library.verify() == []


def test_a_blend_says_itself_what_it_was_made_of(library, files, tmp_path):
    from lora_diffusion.exporting import blend_to_file
    from lora_diffusion.files.adapter import read_adapter

    for file, name in zip(files, ("Ink", "Paper"), strict=False):
        library.add(file, name=name, **ANN)
    parts = [(read_adapter(library.path("ink")), 0.7), (read_adapter(library.path("paper")), -0.3)]
    blended = blend_to_file(parts, tmp_path / "both.safetensors")
    found = library.add(blended.path, name="Both", **ANN)
    lineage = library.lineage("both")
    assert (set(lineage.parents), lineage.method) == ({("Ink@1", 0.7), ("Paper@1", -0.3)}, "concat")
    assert library.where_used("ink").blends == (found,)


def test_uses_are_blends_continued_runs_and_pictures(library, files, drawn):
    library.add(files[0], name="Ink", **ANN)
    blend = library.add(files[1], name="Blend", **ANN, lineage=Lineage(parents=(("ink", 0.5),), method="svd"))
    more = library.add(files[2], name="More", **ANN, lineage=Lineage(parents=(("ink@1", 1.0),), method="train"))
    kept = library.add_picture(drawn[0], **ANN, settings={"prompt": "x"}, adapters=[("ink", 0.8)])
    uses = library.where_used("ink")
    assert (uses.blends, uses.continued, uses.pictures) == ((blend,), (more,), (kept,))
    assert not any((library.where_used("more").blends, library.where_used("more").pictures))


def test_uses_go_by_the_weights_whatever_the_name_and_the_file(library, files, tmp_path):
    from lora_diffusion.exporting import export

    library.add(files[0], name="Ink", **ANN)
    other = export(files[0], tmp_path / "other.safetensors", dialect="diffusers", dtype=None)
    library.add(other.path, name="Ink for diffusers", **ANN)
    blend = library.add(files[1], name="Blend", **ANN, lineage=Lineage(parents=(("ink", 0.5),), method="svd"))
    library.rename("ink", "Wash", **ANN)
    assert library.where_used("ink for diffusers").blends == (blend,)
    assert library.lineage("blend").parents == (("Wash@1", 0.5),)


def test_a_withdrawn_picture_blocks_all_that_was_made_with_it_at_any_distance(library, files, drawn):
    library.add(files[0], name="Ink", **ANN, lineage=Lineage(manifest=((IMAGES[1], "a.png"),)))
    library.add(files[1], name="Blend", **ANN, lineage=Lineage(parents=(("ink", 0.5),), method="svd"))
    library.add(files[2], name="Again", **ANN, lineage=Lineage(parents=(("blend", 1.0),), method="train"))
    library.add(files[3], name="Other", **ANN, lineage=Lineage(manifest=((IMAGES[2], "b.png"),)))
    kept = library.add_picture(drawn[0], **ANN, settings={}, adapters=[("again", 0.8), ("other", 0.1)])
    library.add_picture(drawn[1], **ANN, settings={}, adapters=[("other", 0.8)])
    done = library.withdraw(IMAGES[1].upper(), **BEN, reason="consent was revoked")
    assert [each.ref for each in done.versions] == ["Ink@1"]
    assert [each.ref for each in done.descendants] == ["Blend@1", "Again@1"]
    assert [each.id for each in done.pictures] == [kept.id]
    assert all(each.blocked == "consent was revoked" for each in (*done.versions, *done.descendants))
    assert "consent was revoked" in library.version("again").warning
    assert library.version("other").warning == ""
    assert library.path("again").is_file()
    assert [library.history(ref, limit=1)[0].what for ref in ("ink@1", "again", "other")] == [
        "withdraw",
        "withdraw",
        "add",
    ]
    assert library.withdrawals() == [done]


def test_a_blocked_version_cannot_be_approved(library, files):
    library.add(files[0], name="Ink", **ANN, lineage=Lineage(manifest=((IMAGES[1], "a.png"),)))
    library.promote("ink", "in_review", **ANN)
    library.withdraw(IMAGES[1], **BEN, reason="revoked")
    with pytest.raises(UsageError, match="blocked"):
        library.promote("ink", "approved", **BEN)
    assert library.version("ink").stage == "in_review"


def test_the_name_does_not_go_back_to_a_blocked_version(library, files):
    library.add(files[0], name="Ink", **ANN, lineage=Lineage(manifest=((IMAGES[1], "a.png"),)))
    library.add(files[1], name="Ink", **ANN)
    made.approved(library, "ink@1")
    made.approved(library, "ink@2")
    library.withdraw(IMAGES[1], **BEN, reason="revoked")
    with pytest.raises(UsageError, match="blocked"):
        library.rollback("ink", 1, **BEN, reason="why not")


def test_what_is_added_after_a_withdrawal_is_blocked_too(library, files):
    assert library.withdraw(IMAGES[1], **BEN, reason="revoked").versions == ()
    lineage = Lineage(manifest=((IMAGES[1], "a.png"),))
    assert library.add(files[0], name="Ink", **ANN, lineage=lineage).blocked == "revoked"
    assert library.add(files[1], name="Blend", **ANN, lineage=Lineage(parents=(("ink", 1.0),))).blocked == "revoked"


def test_withdrawing_again_keeps_the_first_reason(library, files):
    library.add(files[0], name="Ink", **ANN, lineage=Lineage(manifest=((IMAGES[1], "a.png"),)))
    library.withdraw(IMAGES[1], **BEN, reason="revoked")
    before = library.head()
    assert library.withdraw(IMAGES[1], **ANN, reason="another").reason == "revoked"
    assert library.head() == before


def test_a_reinstated_picture_frees_what_nothing_else_blocks(library, files):
    library.add(files[0], name="Ink", **ANN, lineage=Lineage(manifest=((IMAGES[1], "a.png"), (IMAGES[2], "b.png"))))
    library.add(files[1], name="Blend", **ANN, lineage=Lineage(parents=(("ink", 0.5),), method="svd"))
    library.add(files[2], name="Paper", **ANN, lineage=Lineage(manifest=((IMAGES[1], "a.png"),)))
    library.withdraw(IMAGES[1], **BEN, reason="revoked")
    library.withdraw(IMAGES[2], **BEN, reason="expired")
    free = library.reinstate(IMAGES[1], **ANN, reason="it was another picture")
    assert [each.ref for each in free] == ["Paper@1"]
    assert [library.version(ref).blocked for ref in ("paper", "ink", "blend")] == ["", "expired", "expired"]
    assert [each.sha256 for each in library.withdrawals()] == [IMAGES[2]]
    assert library.withdrawn() == {IMAGES[2]: "expired"}
    library.reinstate(IMAGES[2], **ANN, reason="renewed")
    assert library.version("blend").blocked == ""
    assert library.add(files[3], name="New", **ANN, lineage=Lineage(manifest=((IMAGES[1], "a.png"),))).blocked == ""
    for sha256, reason in ((IMAGES[1], "twice"), (IMAGES[5], "never was"), (IMAGES[2], " ")):
        with pytest.raises(UsageError):
            library.reinstate(sha256, **ANN, reason=reason)
    assert library.withdraw(IMAGES[1], **BEN, reason="again").reason == "again"
    assert library.version("ink").blocked == "again"
    assert library.verify() == []


@pytest.mark.parametrize(("sha256", "reason"), [("abc", "x"), ("g" * 64, "x"), (IMAGES[1], " ")])
def test_a_withdrawal_needs_a_hash_and_a_reason(library, sha256, reason):
    with pytest.raises(UsageError):
        library.withdraw(sha256, **ANN, reason=reason)
