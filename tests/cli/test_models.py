import hashlib
import json
import os

import numpy as np
import pytest

from darkroom.cli.models.words import told_size
from tiny import tiny_checkpoint, write_tensors


@pytest.fixture
def install(tmp_path):
    """An install of A1111 with a checkpoint, a LoRA that notes speak of, and a page saved wrongly."""
    models = tmp_path / "webui" / "models"
    (models / "Stable-diffusion").mkdir(parents=True)
    (models / "Lora").mkdir()
    tiny_checkpoint(models / "Stable-diffusion" / "base.safetensors")
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    write_tensors(
        models / "Lora" / "ink.safetensors",
        {
            f"{layer}.lora_down.weight": np.zeros((4, 768), np.float16),
            f"{layer}.lora_up.weight": np.zeros((320, 4), np.float16),
        },
        {"ss_output_name": "ink_v2", "ss_tag_frequency": json.dumps({"10_ink": {"line art": 9}})},
    )
    note = {"activation text": "inkstyle", "description": "drawn\x1b[31m with a pen"}
    (models / "Lora" / "ink.json").write_text(json.dumps(note))
    (models / "Lora" / "ink.png").touch()
    (models / "VAE").mkdir()
    (models / "VAE" / "page.safetensors").write_text("<html>gone</html>")
    return tmp_path / "webui"


def rows(result):
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}


def test_the_models_of_an_install_are_listed_by_kind(call, install):
    told = call("models", "--models-dir", install).stdout
    assert (
        told.index("checkpoints:") < told.index("base") < told.index("LoRAs:") < told.index("ink")
    )
    assert "cannot be used" in told
    assert told.replace("\n", "").isprintable()
    found = rows(call("models", "list", "--models-dir", install, "--json"))
    assert set(found) == {"starter", "base", "ink", "page"}
    assert found["ink"]["kind"] == "lora"
    assert found["ink"]["triggers"][0] == "inkstyle"
    assert found["ink"]["preview"].endswith("ink.png")


def test_a_listing_is_filtered_and_paged(call, install):
    def names(*words):
        return [*rows(call("models", "--models-dir", install, "list", "--json", *words))]

    assert names("--kind", "lora") == ["ink"]
    assert names("--kind", "checkpoint", "--arch", "sd1") == ["starter", "base"]
    assert names("--problems") == ["page"]
    assert names("--limit", 1) == ["starter"]
    assert names("--limit", 2, "--page", 2) == ["ink", "page"]
    assert names("--page", 3) == []
    assert (
        "2 to 2 of 4"
        in call("models", "list", "--models-dir", install, "--limit", 1, "--page", 2).stdout
    )
    assert "No model is like that" in call("models", "list", "--kind", "motion-module").stdout
    assert call("models", "list", "--kind", "spoon").exit_code == 2


def test_search(call, install):
    def names(*words):
        return [*rows(call("models", "search", "--models-dir", install, "--json", *words))]

    assert names("pen", "INK") == ["ink"]
    assert names("line art") == ["ink"]
    assert names("nothing like it") == []
    assert call("models", "search").exit_code == 2


def test_show_tells_all_of_any_kind(call, install):
    told = call("models", "--models-dir", install, "show", "ink_v2").stdout
    for said in ("a LoRA", "inkstyle", "line art", "drawn\\x1b[31m", "autov3", "ink.png", "ink_v2"):
        assert said in told
    found = json.loads(call("models", "show", "ink", "--models-dir", install, "--json").stdout)
    assert len(found["sha256"]) == 64
    assert found["metadata"]["ss_output_name"] == "ink_v2"
    page = call("models", "show", "page", "--models-dir", install)
    assert page.exit_code == 0
    assert "cannot be used" in page.stdout
    unknown = call("models", "show", "inkk", "--models-dir", install)
    assert unknown.exit_code == 2
    assert "Did you mean 'ink'" in unknown.stderr
    wrong = call("models", "show", "ink", "--kind", "vae", "--models-dir", install)
    assert wrong.exit_code == 2


def test_verify_sees_bytes_that_changed_in_silence(call, install):
    def verify(*words):
        return call("models", "verify", *words, "--models-dir", install, "--json")

    (row,) = json.loads(verify("ink").stdout)
    assert row["faults"] == []
    path = install / "models" / "Lora" / "ink.safetensors"
    before = path.stat()
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"\1")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = verify("ink")
    assert result.exit_code == 1
    assert "though its size and time did not" in json.loads(result.stdout)[0]["faults"][0]


def test_verify_compares_with_what_lies_beside(call, install):
    note = {"files": [{"hashes": {"SHA256": "ab" * 32}}]}
    (install / "models" / "Lora" / "ink.civitai.info").write_text(json.dumps(note))
    result = call("models", "verify", "--kind", "lora", "--models-dir", install)
    assert result.exit_code == 1
    assert "FAIL  ink" in result.stdout
    assert "another file, or damaged" in result.stdout
    everything = json.loads(call("models", "verify", "--models-dir", install, "--json").stdout)
    assert {row["name"] for row in everything if row["faults"]} == {"ink", "page"}


def test_a_listing_may_hash_first(call, install):
    found = rows(
        call("models", "list", "--hash", "--kind", "lora", "--models-dir", install, "--json")
    )
    assert len(found["ink"]["sha256"]) == 64


def test_every_verb_has_a_line_of_help(call):
    told = call("models", "--help").stdout
    assert all(verb in told for verb in ("list", "show", "search", "verify", "pull"))
    assert call("models", "listt").stderr.startswith(
        "darkroom: there is no verb 'listt'; did you mean list?"
    )


def test_the_flags_of_list_stand_without_it_too(call, install):
    found = rows(call("models", "--models-dir", install, "--kind", "lora", "--json"))
    assert set(found) == {"ink"}
    assert set(rows(call("models", "--problems", "--models-dir", install, "--json"))) == {"page"}
    wrong = call("models", "--kind", "lora", "show", "ink")
    assert wrong.exit_code == 2
    assert "--kind: write it after the verb" in wrong.stderr


def test_a_wrong_folder_is_said_wherever_models_are_sought(call, tmp_path):
    gone = tmp_path / "nowhere"
    for words in (("list", "--kind", "lora"), ("search", "x"), ("show", "starter"), ()):
        said = call("models", *words, "--models-dir", gone)
        assert said.exit_code == 0
        told = said.stderr if words else said.stdout
        assert str(gone) in told.replace("\n", "") and "there is no such folder" in told
    told = json.loads(call("models", "show", "starter", "--models-dir", gone, "--json").stdout)
    assert str(gone) in told["warnings"][0] and told["name"] == "starter"
    assert rows(call("models", "list", "--kind", "lora", "--models-dir", gone, "--json")) == {}
    unknown = call("models", "show", "dreamy", "--models-dir", gone)
    assert unknown.exit_code == 2 and str(gone) in unknown.stderr


def test_two_folders_in_one_flag(call, install, tmp_path):
    both = os.pathsep.join((str(install), str(tmp_path / "nowhere")))
    ran = call("models", "list", "--models-dirs", both, "--kind", "lora")
    assert "ink" in ran.stdout and str(tmp_path / "nowhere") in ran.stderr


def test_families_and_pages_that_are_not_there(call, install):
    wrong = call("models", "list", "--arch", "banana")
    assert wrong.exit_code == 2 and "SDXL refiner" in wrong.stderr
    assert set(rows(call("models", "--models-dir", install, "--arch", "sd 1.5", "--json"))) == {
        "starter", "base", "ink",
    }  # fmt: skip
    told = call("models", "--models-dir", install, "--limit", 3, "--page", 99).stdout
    assert "There is no such page: 4 are on 2 page(s) of 3." in told


@pytest.mark.parametrize("verb", ["show", "verify", "convert", "prune"])
def test_an_empty_name_is_refused(call, verb):
    ran = call("models", verb, "")
    assert ran.exit_code == 2 and "the name of a model is missing" in ran.stderr


def test_show_tells_what_a_lora_and_a_checkpoint_are_made_of(call, install):
    note = install / "models" / "Lora" / "ink.json"
    note.write_text(json.dumps({"activation text": "a, b", "negative text": "photo"}))
    told = call("models", "--models-dir", install, "show", "ink").stdout
    assert "rank 4" in told and "kohya names" in told and "photo" in told
    assert "legacy" not in told
    told = call("models", "--models-dir", install, "show", "base").stdout
    assert "unet, vae, text; no EMA weights (pruned)" in told and "legacy" in told


def test_show_says_why_few_steps_are_taken(call, tmp_path):
    tiny_checkpoint(tmp_path / "dream_lcm.safetensors")
    told = call("models", "show", tmp_path / "dream_lcm.safetensors").stdout
    assert "steps 8, cfg_scale 1.5, sampler LCM (for LCM, which its name tells)" in told
    told = call("models", "show", "starter").stdout
    assert "cfg_scale 5.0 (its maker says so)" in told


def test_an_embedding_is_for_a_family_and_made_from_a_checkpoint(call, tmp_path):
    path = tmp_path / "easy.safetensors"
    told = {"sd_checkpoint_name": "x"}
    write_tensors(path, {"emb_params": np.zeros((2, 768), np.float32)}, told)
    lines = [line.split(None, 1) for line in call("models", "show", path).stdout.splitlines()]
    assert ["for", "SD1"] in lines and ["made", "from      x"] in lines


def test_verify_compares_with_what_the_trainer_hashed(call, tmp_path):
    path = tmp_path / "mine.safetensors"
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{layer}.lora_down.weight": np.zeros((4, 1280), np.float16),
        f"{layer}.lora_up.weight": np.zeros((1280, 4), np.float16),
    }
    data = hashlib.sha256(b"".join(each.tobytes() for each in tensors.values())).hexdigest()
    write_tensors(path, tensors, {"sshs_model_hash": data})
    assert call("models", "verify", path).exit_code == 0
    write_tensors(path, tensors, {"sshs_model_hash": "ab" * 32})
    wrong = call("models", "verify", path)
    assert wrong.exit_code == 1 and "not those that its trainer hashed" in wrong.stdout
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    note = {"files": [{"hashes": {"SHA256": whole}}]}  # its page says that it is just this file
    path.with_suffix(".civitai.info").write_text(json.dumps(note))
    assert call("models", "verify", path).exit_code == 0


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 KB"), (9_949, "9.9 KB"), (9_960, "10 KB"),
        (655_000, "655 KB"), (999_900, "1.0 MB"), (8_800_000, "8.8 MB"), (144_000_000, "144 MB"),
        (2_133_000_000, "2.1 GB"), (12_900_000_000, "13 GB"),
    ],
)  # fmt: skip
def test_sizes(size, told):
    assert told_size(size) == told
