"""What only reads, or changes words, never waits for torch."""

import subprocess
import sys

from lora_diffusion.library import Library
from tests.library import made

_SCRIPT = """
import sys
sys.modules["torch"] = None  # an import of it fails
from lora_diffusion import Library, Lineage, lineage_of_run
who = {"by": "ben", "when": "2026-01-31T09:00:00+00:00"}
with Library.open(sys.argv[1]) as library:
    library.versions(text="ink", stage="approved", family="sd1", tag="wet", every=True)
    version = library.version("ink")
    library.path("ink"), library.object(version.sha256), library.lineage("ink"), library.samples("ink")
    library.compare("ink", "paper"), library.comments("ink"), library.where_used("ink"), library.withdrawals()
    library.trained_on("0" * 64), library.history("ink"), library.head()
    library.describe("ink", **who, notes="new"), library.comment("ink", "x", **who)
    library.promote("paper", "in_review", **who), library.promote("paper", "approved", **who)
    library.rollback("paper", 1, **who, reason="x"), library.rename("paper", "Sheet", **who)
    library.withdraw("e" * 64, **who, reason="x")
    assert "pydantic" not in sys.modules
    picture = library.pictures()[0]
    library.add_sample("sheet", picture.path, **who)
    library.add_picture(picture.path, **who, settings={}, adapters=[("ink", 1.0)])
    library.picture(picture.id), library.star(picture.id, False, **who)
    library.set_picture_state(picture.id, "approved", **who)
    assert library.verify() == []
heavy = {"diffusers", "transformers", "jinja2"} & set(sys.modules)
assert not heavy, heavy
"""

_COMMANDS = """
import sys
sys.modules["torch"] = None
from lora_diffusion.cli import run
for words in ("list", "show ink", "history", "compare ink paper", "where-used ink", "verify", "pictures", "path ink"):
    assert run(["library", *words.split(), "--home", sys.argv[1], "--json"]) == 0, words
"""


def ran(script, home):
    done = subprocess.run([sys.executable, "-c", script, home], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_reading_and_describing_never_import_torch(tmp_path, files, drawn):
    with Library.open(tmp_path) as library:
        made.fill(library, files, drawn)
    ran(_SCRIPT, str(tmp_path))


def test_commands_that_read_never_import_torch(tmp_path, files, drawn):
    with Library.open(tmp_path) as library:
        made.fill(library, files, drawn)
    ran(_COMMANDS, str(tmp_path))
