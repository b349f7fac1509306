import pytest

from darkroom.core.settings import Settings
from darkroom.library.folders import installed
from darkroom.library.prompts import embeddings_of, styles_of, wildcards_of


def folders(top, *names):
    for name in names:
        (top / name).mkdir(parents=True)


@pytest.fixture
def a1111(tmp_path):
    top = tmp_path / "webui"
    folders(top, "models/Stable-diffusion", "models/Lora", "embeddings", "extensions/dyn/wildcards")
    (top / "styles.csv").write_text('name,prompt,negative_prompt\nink,"{prompt}, ink",\n')
    (top / "extensions/dyn/wildcards/colour.txt").write_text("red\n")
    (top / "embeddings/bad_hands.pt").touch()
    (top / "embeddings/bad_hands.png").touch()
    (top / "embeddings/drawn.png").touch()
    (top / "embeddings/other.preview.png").touch()
    return top


def test_an_install_of_a1111_and_its_models_folder_are_the_same(a1111):
    whole, inner = installed([a1111]), installed([a1111 / "models"])
    assert whole == inner
    assert whole.models == (a1111 / "models", a1111 / "embeddings")
    assert whole.embeddings == (a1111 / "embeddings",)
    assert whole.styles == (a1111 / "styles.csv",)


def test_what_an_install_has_for_prompts_is_used(a1111, tmp_path):
    settings = Settings(data_dir=tmp_path / "data", models_dirs=(a1111,))
    assert set(embeddings_of(settings)) == {"bad_hands", "drawn"}
    assert "ink" in styles_of(settings)
    assert wildcards_of(settings) is not None


def test_a_plain_folder_is_itself(tmp_path):
    folders(tmp_path, "vae", "anime")
    assert installed([tmp_path]).models == (tmp_path,)
    assert installed([tmp_path / "nowhere"]).models == (tmp_path / "nowhere",)


def test_extra_model_paths(tmp_path):
    top = tmp_path / "ComfyUI"
    folders(top, "models/checkpoints", "models/embeddings")
    (top / "extra_model_paths.yaml").write_text(
        "a111:\n"
        "    base_path: ../webui\n"
        "    checkpoints: models/Stable-diffusion\n"
        "    loras: |\n"
        "        models/Lora\n"
        "        models/LyCORIS\n"
        "    embeddings: embeddings\n"
        "mine:\n"
        "    base_path: /data\n"
        "    is_default: true\n"
        "    vae: vae\n"
        "    custom_nodes: nodes\n"
        "    broken: [1, 2]\n"
    )
    found = installed([top])
    webui = top / ".." / "webui"
    assert [str(path) for path in found.models] == [
        str(path)
        for path in (
            top / "models",
            "/data/vae",
            webui / "models/Stable-diffusion",
            webui / "models/Lora",
            webui / "models/LyCORIS",
            webui / "embeddings",
        )
    ]
    assert found.embeddings == (top / "models" / "embeddings", webui / "embeddings")
    assert installed([top / "extra_model_paths.yaml"]).models == found.models[1:]


def test_the_example_of_comfyui_without_its_comment_signs(tmp_path):
    folders(tmp_path, "models/clip", "nodes #1")
    path = tmp_path / "extra_model_paths.yaml"
    path.write_text(
        "comfyui:\n"
        "     base_path: .\n"
        "     # You can use is_default to mark that these folders should be listed first\n"
        "     is_default: true\n"
        "     checkpoints: models/checkpoints/\n"
        "     text_encoders: |\n"
        "          models/text_encoders/\n"
        "          models/clip/  # legacy location still supported\n"
        "     loras: nodes #1\n"
        "     vae: |\n"
        "          nodes #1\n"
    )
    names = ("models/checkpoints", "models/text_encoders", "models/clip", "nodes", "nodes #1")
    assert installed([path]).models == tuple(tmp_path / name for name in names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not valid YAML"),
        ("- a\n- b", "should name sections"),
        ("[" * 5000, "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("\0", "not valid YAML"),
        ("x" * (2 << 20), "too large"),
    ],
)
def test_a_bad_list_of_folders_is_one_sentence(tmp_path, library_of, text, said):
    path = tmp_path / "extra_model_paths.yaml"
    path.write_text(text)
    (problem,) = installed([path]).problems
    assert problem[0] == path
    assert said in problem[1]
    assert "\n" not in problem[1]
    assert said in library_of(path).list()[-1].problem


def test_a_list_that_is_all_comments_lists_nothing(tmp_path):
    path = tmp_path / "paths.yaml"
    path.write_text("# nothing yet\n")
    assert installed([path]) == installed([])
