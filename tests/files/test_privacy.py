"""What gives people away, on strings as they stand in real files, and what only looks like it."""

import base64
import time

import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.files.privacy import PROFILES, find_private, privacy_difference, redact, require_public

GIVES_AWAY = {
    "a path": [
        "/home/ann/models/base.safetensors",
        "/home/ann",
        "/Users/ann/Desktop/brand",
        "/mnt/data/10_ann",
        "/workspace/kohya/train",
        "/data/brand/images",
        "trained from /srv/brand/images, 20 pictures",
        '{"image_dir": "/tmp/xyz"}',
        "base=/opt/models/sd15",
        "~/work/brand",
        "~ann/work",
        "./data/train",
        "../secret/base",
        "$HOME/brand/out",
        "${HOME}/brand/out",
        "%USERPROFILE%\\brand",
        "%userprofile%\\brand",
        r"C:\Users\ann\vae.pt",
        "C:/Users/ann/vae.pt",
        "D:\\brand",
        r"\\server\share\brand",
        "file:///etc/hosts",
        "Documents/brand/notes",
        "img/10_ann/portrait.png",
        "models/base.safetensors",
        r"train\10_ann\a.png",
        "see config at conf/plan.toml for more",
        "/home\u200b/ann",
        "\u202e/home/ann",
        "//nas/share/brand",
        "OneDrive - Brand Ltd/ann",
    ],
    "an e-mail address": [
        "ann@example.com",
        "ask ann.smith+lora@mail.example.co.uk for a licence",
        "Ann <ann@studio-x.de>",
        "mailto:ann@example.org",
        "ＡＮＮ＠corp.com",
        "jörg@müller.de",
        "ann (at) example.com",
        "ann[at]example[dot]com",
    ],
    "a login": ["ann@gpu-box:", "rsync ann@gpu:out", "ssh ann@gpu7", "ssh -p 22 ann@gpu7"],
    "a place in a store": [
        "s3://brand-bucket/ann/x",
        "gs://secret-bucket/faces",
        "smb://nas/share",
        "sftp://box/x",
        "see wandb.ai/ann/run",
    ],
    "an address of a private network": [
        "192.168.1.20",
        "on 10.0.0.3:8080",
        "http://172.20.1.5/x",
        "127.0.0.1",
        "http://ann-pc.local:7860",
        "fe80::1ff:fe23",
    ],
    "a phone number": ["+49 170 1234567", "call +1 (555) 123-4567", "+491701234567", "0049 170 1234567"],
    "a URL with credentials": [
        "https://ann:hunter2@example.com/x",
        "https://token@github.com/ann/repo.git",
        "ftp://ann:pw@10.0.0.3/data",
        "https://example.com/x?token=abc123",
        "https://hub.example.com/m?a=1&api_key=xyz",
        "https://b.s3.example.com/k?X-Amz-Signature=ab12",
        "https://example.com/#access_token=abc",
    ],
    "a secret": [
        "hf_abcdefGHIJKLmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "Bearer abcdef.ghijkl",
        "password: hunter2",
        "api key=12",
        "HUB_API_KEY: abc",
        "glpat-abcdefghij1234567890",
        "xoxb-123456789012-abcdef",
        "ghp_abcdefghijklmnop1234",
        "sk-abcdefghijklmnop1234",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc123456789",
    ],
    "a user name": [
        "username: ann",
        "user=ann",
        '{"user": "ann"}',
        "logged in as: ann",
        "hostname=gpu7",
        "uid=1000(ann)",
        "trained by user ann",
        "made on DESKTOP-4F7K2L9",
    ],
    "something in base64": [
        base64.b64encode(rb"C:\Users\ann\brand").decode(),
        base64.urlsafe_b64encode(b'{"by": "ann.smith@example.com"}').decode().rstrip("="),
    ],
    "captions": [
        '{"10_ann": {"ann smiling": 3, "outdoors": 1}}',
        '{"caption": "a photo of ann in the kitchen"}',
        "caption: ann at the beach",
        "1girl, solo, long hair",
        "10_ann woman",
        "5_brandx style",
    ],
}

HARMLESS = [
    "version 10.2.0.1 of the style",
    "v1.10.0.3",
    "https://example.com/a//b",
    "// drawn by hand",
    "meet us (at noon)",
    "secretly_bright",
    "a local style.local",
    "8.8.8.8",
    "weights +0.8 to +1.2",
    "+1 -1 +2",
    "+10 -20 -30",
    "0.9, 0.99, 1e-8",
    "2024-05-17 and 2025-06-18",
    "steps 1000 2000 3000",
    "1024 768 512",
    "a gas://like glow",
    "fox-like, boxy",
    "eyJust a typo",
    "Blueprint",
    "blueprint style, white lines on blue",
    "runwayml/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "v1-5-pruned-emaonly.safetensors",
    "stable-diffusion-v1/lora",
    "16/9",
    "1/3 of the steps",
    "and/or",
    "w/o text encoder",
    "24/7",
    "f/2.8, 1/250 s",
    "km/h",
    "either / or",
    "https://huggingface.co/runwayml/stable-diffusion-v1-5",
    "https://example.com/licence.txt",
    "https://github.com/Stability-AI/generative-models",
    "see http://example.com/a?page=2&size=3",
    "512x512",
    "(512, 512)",
    "2026-11-22T10:00:00Z",
    "1e-4",
    "AdamW8bit",
    "cosine_with_restarts",
    '{"conv_dim": "4", "algo": "loha"}',
    '[{"name": "blueprint", "weight": 0.8}]',
    "CC-BY-4.0",
    "by @ann_art",
    "two at 5@10",
    "trigger: brandx",
    "Use at a weight of 0.6 to 0.9. Works with photos, drawings, and text.",
    "A style of thin lines: user interfaces, maps and plans.",
    "a user-friendly style",
    "style, line art, blue, technical, paper, ink, plan, map and the like, as in old drawings of machines",
    "ratio 3:4",
    "C: the third letter",
    "the home of blueprints",
    "0,1000",
    "drawn by hand (pen & ink)",
    "keyword=style",
    "sd_v1_v",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "ink~wash",
    "a/b test",
    "Größe: mittel",
    "水墨画",
]


@pytest.mark.parametrize(("text", "what"), [(text, what) for what, texts in GIVES_AWAY.items() for text in texts])
def test_what_gives_someone_away_is_found_and_named(text, what):
    assert find_private(text) == what
    with pytest.raises(UsageError, match=r"modelspec\.description"):
        require_public({"modelspec.description": text})


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_passes(text):
    assert find_private(text) == ""
    require_public({"modelspec.description": text})


def test_the_corpus_is_large_enough_to_mean_something():
    assert sum(map(len, GIVES_AWAY.values())) > 50
    assert len(HARMLESS) > 40


def test_names_that_the_caller_knows_are_found_as_whole_words():
    assert find_private("made by Ann", names=("ann", "gpu7")) == "a user name"
    assert find_private("annotated by hand", names=("ann",)) == ""
    assert privacy_difference({"modelspec.author": "Ann"}, "public", names=("ann",))[0].key == "modelspec.author"


@pytest.mark.parametrize(
    "key",
    ["ss_wandb_run_name", "owner", "machine", "ss_logging_dir", "log_dir", "tag_frequency", "workflow"],
)
def test_a_team_file_says_nothing_under_keys_of_people_places_and_captions(key):
    assert [each.key for each in privacy_difference({key: "x", "ss_lr": "1e-4"}, "team")] == [key]


def test_a_list_of_tags_is_a_caption_but_not_under_tags():
    tags = "blue, smile, outdoors, tree, night, rain, street, lamp, hat"
    assert [each.key for each in privacy_difference({"modelspec.description": tags}, "public")] == [
        "modelspec.description"
    ]
    assert privacy_difference({"modelspec.tags": tags}, "public") == ()


def test_the_preview_says_what_is_left_out_and_why():
    metadata = {
        "modelspec.title": "Blueprint",
        "modelspec.description": "ask ann@example.com",
        "ss_tag_frequency": '{"10_ann": {"ann": 1}}',
        "ss_lowram": "False",
    }
    public = {each.key: each.reason for each in privacy_difference(metadata, "public")}
    assert public == {
        "modelspec.description": "holds an e-mail address",
        "ss_tag_frequency": "says captions, folders or people",
        "ss_lowram": "is not on the list of what strangers need",
    }
    assert [each.key for each in privacy_difference(metadata, "team")] == ["modelspec.description", "ss_tag_frequency"]
    assert privacy_difference(metadata, "private") == ()


@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_preview_names_is_what_a_file_loses(profile):
    metadata = {f"modelspec.{at}": text for at, text in enumerate(HARMLESS)} | {
        f"ss_{at}": text for at, text in enumerate(text for texts in GIVES_AWAY.values() for text in texts)
    }
    lost = {each.key for each in privacy_difference(metadata, profile)}
    assert set(metadata) - set(redact(metadata, profile)) == lost
    assert privacy_difference(redact(metadata, profile), profile) == ()


def test_a_value_that_is_shown_is_short():
    (withheld,) = privacy_difference({"ss_datasets": "x" * 500}, "team")
    assert len(withheld.value) <= 60


@pytest.mark.parametrize(
    "text",
    ["a" * 60_000, "a." * 30_000, "a-" * 30_000, "1_a " * 15_000, "a/" * 30_000, "/ab" * 20_000, "@a" * 30_000,
             '{"a":{' * 10_000, "~/" * 30_000, "\\" * 60_000, "a b/" * 15_000, "?token" * 10_000,
     "+1 23" * 13_000, "10.1." * 13_000, "ssh -a " * 9_000,
     "YWFh" * 15_000, "a (at" * 12_000, "//a" * 20_000, "ä" * 60_000, "ä.@ä" * 15_000]
)  # fmt: skip
def test_no_text_takes_long(text):
    start = time.perf_counter()
    find_private(text)
    assert time.perf_counter() - start < 1
