import json
import os

import numpy as np
import pytest

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
