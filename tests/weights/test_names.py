"""Names in a header: patterns, and the dots that averages have lost."""

import pytest

from checkpoints import UNETS, real_layout
from darkroom.weights.names import Names, fits, with_dots
from tiny import made_header


def test_patterns():
    names = Names(made_header({"a.b.1.c": (1,), "x12.y": (2, 3), "odd\nname": (1,)}))
    assert all(map(names.has, ("a.b.1.c", "a.*", "*.c", "*b*", "x99.*", "a.*.c", "*")))
    assert not any(map(names.has, ("a.b.2.c", "b*", "*b", "x.y", "a.*.d")))
    assert names.size("x12.y", -1) == 3 and names.size("x12.y", 2) == names.size("no", 0) == 0
    assert names.rank("x12.y") == 2 and names.rank("no") == 0


def test_a_name_alone_is_read_like_many():
    patterns = ("exact", "model_ema.*", "*.position_ids", "a.*.z")
    for name in ("exact", "model_ema.x", "text.position_ids", "a.b9.c.z"):
        assert fits(name, patterns) and any(map(Names(made_header({name: (1,)})).has, patterns))
    for name in ("exactly", "x.model_ema.y", "position_ids", "a.z.b", "x\na.b.z"[:1]):
        assert not fits(name, patterns)


@pytest.mark.parametrize("arch", UNETS)
def test_the_names_of_averages_have_no_dots(arch):
    """LDM's LitEma takes the dots out; we put every one back."""
    for row in real_layout(arch)["unet"]:
        average = "model_ema." + row.source.removeprefix("model.").replace(".", "")
        assert with_dots(average) == row.source
    for name in ("model_ema.decay", "model_ema.num_updates", "model_ema.diffusion_modelstrange"):
        assert with_dots(name) is None
