"""What a request with a picture works on, in pixels, and what the user gets of it.

A canvas is painted at the size of the request; the picture may have another. Where there is a mask,
the paint is laid into the picture itself, and every pixel where the blurred mask is black stays as
it is. All of it follows from the request and the files, so that a latent can be finished later.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from PIL import Image, ImageChops

from darkroom.core.blocks import Fill, Init, Mask, Outpaint
from darkroom.core.errors import BadRequest
from darkroom.core.request import ResolvedRequest
from darkroom.media import mask as masks
from darkroom.media.color import corrected
from darkroom.media.fill import from_surroundings
from darkroom.media.fit import MOST, UNIT, Placing, Size, fit, own_size, padded, place, place_whole
from darkroom.media.inputs import Pictures
from darkroom.media.picture import flat, read_picture

__all__ = ["Canvas", "Patch", "Pictures", "around", "canvas_of"]

_NEAR = 32  # px of the canvas: how far inside a picture the colours of its margins begin
_DRAWN = 16  # px of the canvas: over which the border itself, drawn out, goes over into them
_COARSE = 2  # times by which paint is enlarged before it is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Where paint is laid into a picture."""

    base: Image.Image  # RGB or RGBA
    placing: Placing  # of the base on the canvas
    mask: Image.Image  # "L", of the size of the placing's region; 255 is all paint
    opaque: bool = False  # paint covers what is transparent, which else stays so
    copied: Callable[[Size], Image.Image] | None = None
    """Makes the base in another size, where it has the canvas's and not the picture's own."""

    def laid(self, paint: Image.Image, only: Image.Image | None = None) -> Image.Image:
        """The base with `paint`, a canvas, laid into it; no more of it than the mask `only` has."""
        patch = self.enlarged(paint.size)
        part, mask = patch.placing.off(paint), patch.mask
        if only is not None:
            own = self.placing.off(only).resize(part.size)
            mask = ImageChops.multiply(own, mask.point(lambda value: 255 if value else 0))
        done = patch.base.copy()
        done.paste(part.convert(done.mode), patch.placing.region[:2], mask)
        if done.mode == "RGBA" and not self.opaque:
            done.putalpha(patch.base.getchannel("A"))
        return done

    def enlarged(self, size: Size) -> "Patch":
        """That for paint of a second run, which has another size than the canvas."""
        if self.copied is None or size == self.placing.size:
            return self
        return replace(
            self,
            base=self.copied(size),
            placing=place((0, 0, *size), size, "stretch"),
            mask=self.mask.resize(size, Image.Resampling.BILINEAR),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The picture that is encoded, and the way back to what the user gets."""

    picture: Image.Image  # RGB, of the request's size; with resize="latent" near its own
    mask: Image.Image | None = None  # "L", the same size, blurred; 255 is painted anew
    notes: tuple[str, ...] = ()  # for the user
    like: Image.Image | None = None  # RGB: the colours to come back to
    patch: Patch | None = None  # None: the user gets the result itself

    def back(self, result: Image.Image, *, only: Image.Image | None = None) -> Image.Image:
        """What the user gets of a `result` (RGB) of the request's size, or of its second run's.

        `only` ("L", of the canvas) says how much of the result is taken where the mask lets it.
        """
        if self.like is not None:
            result = corrected(result, self.like)
        return result if self.patch is None else self.patch.laid(result, only)


def canvas_of(request: ResolvedRequest, pictures: Pictures) -> Canvas | None:
    """The canvas of a request; None without a picture to begin with.

    BadRequest where there would be nothing to paint.
    """
    init, size = request.init, (request.width, request.height)
    if init is None:
        return None
    picture = read_picture(pictures(init.image), alpha=True)
    if request.outpaint is not None:
        canvas = _extended(picture, request.outpaint, size)
    elif request.mask is not None:
        canvas = _Masking(init, request.mask, size).canvas(picture, pictures)
        if canvas.patch is not None and gives_back(request):
            canvas = replace(canvas, patch=replace(canvas.patch, mask=_black(canvas.patch.mask)))
    else:
        fitted = _fitted(flat(picture), init, size)
        canvas = Canvas(picture=fitted, like=fitted)
        if gives_back(request) and size == own_size(picture.size):
            canvas = Canvas(picture=fitted, patch=_untouched(picture, size))
    return replace(
        canvas,
        notes=(*canvas.notes, *_idle(request), *_unseen(request, picture, canvas)),
        like=canvas.like if init.color_correction else None,
    )


def gives_back(request: ResolvedRequest) -> bool:
    """Whether the result is the picture itself: no step is made, and nothing put into it before."""
    init, mask = request.init, request.mask
    if init is None or init.strength > 0 or request.hires is not None:
        return False
    filled = mask is not None and (mask.image is None or mask.fill != "original")
    return request.outpaint is None and not filled


def around(
    picture: Image.Image, mask: Image.Image, *, size: Size, padding: int, blur: float
) -> Canvas:
    """Only the masked part of `picture`, with `padding` px around it, painted at `size`.

    `mask` ("L") has the picture's size and something in it; it is blurred by `blur` px.
    """
    soft = masks.blurred(mask, blur, blur)
    box = soft.getbbox()
    if box is None:
        raise BadRequest("the mask is empty: there is nothing to paint")
    region = masks.surroundings(box, size, padding=padding, limits=picture.size)
    placing = place(region, size, "fill")
    patch = _patch(picture, soft, placing)
    return Canvas(picture=placing.onto(flat(picture)), mask=placing.onto(soft), patch=patch)


def _patch(
    base: Image.Image, soft: Image.Image, placing: Placing, *, opaque: bool = False
) -> Patch:
    """Where paint goes, by the blurred mask of the whole base.

    All of it is taken where the mask was white before the blur: half of it would let through what
    was there before. The outer half of the blur is where both are mixed.
    """
    mask = masks.doubled(soft.crop(placing.region))
    return Patch(base=base, placing=placing, mask=mask, opaque=opaque)


def _untouched(picture: Image.Image, size: Size) -> Patch:
    """The picture as it is, whatever is painted."""
    return _patch(picture, _black(picture), place_whole(picture.size, size))


def _black(image: Image.Image) -> Image.Image:
    """A mask of that size by which nothing is painted."""
    return Image.new("L", image.size)


def _fitted(picture: Image.Image, init: Init, size: Size) -> Image.Image:
    """`picture` as it is encoded; for "latent" at its own size, but for a few pixels."""
    if init.resize != "latent":
        return fit(picture, size, init.resize)
    width, height = (min(max(side // UNIT, 1) * UNIT, MOST) for side in picture.size)
    return fit(picture, (width, height), "crop")


# ---- masks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Masking:
    """How a picture becomes a canvas where a part of it is painted anew."""

    init: Init
    block: Mask
    size: Size  # of the request

    def canvas(self, picture: Image.Image, pictures: Pictures) -> Canvas:
        """That of `picture`, which has its own size and perhaps transparent parts."""
        mask, begun, notes = _read(self.block, picture, pictures)
        mask = self._checked(mask)
        if self.block.area == "whole" and not self.block.full_size:
            return self._of_copy(picture, begun, mask, notes)
        soft = self._blurred(mask)
        placing = self._placing(soft)
        inside, seen = placing.onto(begun), placing.onto(soft)
        return self._begun(inside, seen, self._patch(picture, soft, placing), notes)

    def _placing(self, soft: Image.Image) -> Placing:
        """What of a picture that keeps its size is seen: all, or the surroundings of the mask."""
        box = 0, 0, *soft.size
        if self.block.area == "whole":
            return place(box, self.size, "stretch")
        around_it, padding = soft.getbbox() or box, self.block.padding
        region = masks.surroundings(around_it, self.size, padding=padding, limits=soft.size)
        return place(region, self.size, "fill")

    def _of_copy(
        self, picture: Image.Image, begun: Image.Image, mask: Image.Image, notes: list[str]
    ) -> Canvas:
        """Everything gets the size of the request."""
        how = self.init.resize
        soft = self._blurred(self._rounded(fit(mask, self.size, how)))
        placing = place((0, 0, *self.size), self.size, "stretch")
        patch = replace(
            self._patch(fit(picture, self.size, how), soft, placing),
            copied=partial(fit, picture, how=how),
        )
        inside = _fitted(begun, self.init, self.size)
        return self._begun(inside, masks.resized(soft, inside.size)[0], patch, notes)

    def _begun(
        self, inside: Image.Image, seen: Image.Image, patch: Patch, notes: list[str]
    ) -> Canvas:
        """The canvas with what its masked part begins with."""
        fill = self.block.fill
        if self._transparency and fill == "original":
            fill = "fill"  # nobody has seen what is below the transparent parts
        return Canvas(
            picture=_begin(inside, seen, fill),
            mask=seen,
            notes=(*notes, *self._told(seen, patch.placing)),
            like=inside,
            patch=patch,
        )

    def _told(self, seen: Image.Image, placing: Placing) -> Iterator[str]:
        """What to know of how large the masked part is on the canvas, and in the picture."""
        whole = self.block.area == "whole"
        if _is_lost(seen, hard=self.block.softness == "hard"):
            cure = "mask area masked enlarges it, and " if whole else ""
            cure += "a smaller mask blur leaves more of it"
            yield f"the masked part is too small for {_named(placing.size)}: {cure}"
        more = "mask area masked, or a larger size," if whole else "a larger size"
        yield from _enlarging(placing, cure=more)

    @property
    def _transparency(self) -> bool:
        """Whether the mask is what is transparent in the picture."""
        return self.block.image is None and self.block.sketch is None

    def _patch(self, base: Image.Image, soft: Image.Image, placing: Placing) -> Patch:
        return _patch(base, soft, placing, opaque=self._transparency)

    def _checked(self, mask: Image.Image) -> Image.Image:
        """The mask inverted and rounded as asked for; BadRequest where nothing of it is white."""
        hard = self.block.softness == "hard"
        return masks.checked(mask, invert=self.block.invert, hard=hard)

    def _rounded(self, mask: Image.Image) -> Image.Image:
        return masks.rounded(mask) if self.block.softness == "hard" else mask

    def _blurred(self, mask: Image.Image) -> Image.Image:
        block = self.block
        x = block.blur if block.blur_x is None else block.blur_x
        y = block.blur if block.blur_y is None else block.blur_y
        return masks.blurred(mask, x, y)


def _read(
    block: Mask, picture: Image.Image, pictures: Pictures
) -> tuple[Image.Image, Image.Image, list[str]]:
    """The mask of the picture's size, what the picture begins with (RGB), and notes."""
    begun = flat(picture)
    if block.sketch is not None:
        sketch, note = _of_size(read_picture(pictures(block.sketch)), picture.size)
        mask = masks.painted_over(begun, sketch)
        return mask, Image.composite(sketch, begun, mask), [note] if note else []
    if block.image is not None:
        mask, note = masks.resized(masks.read_mask(pictures(block.image)), picture.size)
        return mask, begun, [note] if note else []
    return masks.holes(picture), begun, []


def _of_size(sketch: Image.Image, size: Size) -> tuple[Image.Image, str]:
    if sketch.size == size:
        return sketch, ""
    was, now = (f"{width} x {height}" for width, height in (sketch.size, size))
    note = f"the sketch of {was} pixels was stretched to the picture's {now}; what is painted may"
    return fit(sketch, size, "stretch"), f"{note} not be told apart cleanly"


def _begin(picture: Image.Image, mask: Image.Image, fill: Fill) -> Image.Image:
    """`picture` with what its masked part begins with. Noise is put into latents, later."""
    return picture if fill == "original" else from_surroundings(picture, mask)


def _is_lost(seen: Image.Image, *, hard: bool) -> bool:
    """Whether nothing is left of a mask on the canvas where it is made as coarse as latents."""
    width, height = (max(side // UNIT, 1) for side in seen.size)
    small = seen.resize((width, height), Image.Resampling.BICUBIC)
    return (masks.rounded(small) if hard else small).getbbox() is None


def _enlarging(placing: Placing, *, cure: str) -> Iterator[str]:
    """That the paint is enlarged by much."""
    times = (placing.region[2] - placing.region[0]) / placing.scaled[0]
    if times >= _COARSE:
        yield (
            f"the picture is painted at {_named(placing.size)} and enlarged {times:.1f} times;"
            f" {cure} gives more detail"
        )


def _named(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


# ---- outpainting ---------------------------------------------------------------------------------


def _extended(picture: Image.Image, block: Outpaint, size: Size) -> Canvas:
    """The picture with margins, which begin with its border or the colours near it."""
    width, height = picture.size
    base = padded(picture, (block.left, block.up, block.right, block.down))
    inner = (block.left, block.up, block.left + width, block.up + height)
    placing = place_whole(base.size, size)
    inside = placing.onto(flat(base))
    margins = masks.rising(placing.onto(masks.frame(base.size, inner, 0)), _DRAWN)
    near = placing.onto(masks.frame(base.size, inner, _NEAR * base.width / placing.scaled[0]))
    soft = masks.frame(base.size, inner, block.blur)
    seen = placing.onto(soft)
    thin = f"the margins are too thin for {_named(size)}: they are the border drawn out"
    return Canvas(
        picture=inside if block.fill == "original" else from_surroundings(inside, margins, near),
        mask=seen,
        notes=(
            *([thin] if _is_lost(seen, hard=True) else []),
            *_enlarging(placing, cure="a larger size"),
        ),
        like=inside,
        patch=_patch(base, soft, placing, opaque=True),
    )


# ---- what does nothing ---------------------------------------------------------------------------


def _idle(request: ResolvedRequest) -> Iterator[str]:
    """Settings of the picture and its mask that have no effect here."""
    init, mask = request.init, request.mask
    if init is None:
        return
    in_place = request.outpaint is not None or (
        mask is not None and (mask.area == "masked" or bool(mask.full_size))
    )
    if in_place and init.resize != Init.model_fields["resize"].default:
        yield f"resize {init.resize} has no effect: the result keeps the picture's size"
    if mask is None:
        return
    if mask.area == "whole" and mask.padding != Mask.model_fields["padding"].default:
        yield "mask padding has no effect: the network sees the whole picture"
    if mask.sketch is not None and mask.fill != "original":
        yield f"the paint of the sketch only says where: mask fill {mask.fill} takes its place"


def _unseen(request: ResolvedRequest, picture: Image.Image, canvas: Canvas) -> Iterator[str]:
    """What of the picture or of a second run is not in the result."""
    if request.mask is None and request.outpaint is None:
        if picture.mode == "RGBA" and canvas.patch is None:
            yield "what is transparent in the picture is taken as white: the result is opaque"
        return
    patch = canvas.patch
    if request.hires is None or patch is None or patch.copied is not None:
        return
    if patch.placing.region[2] - patch.placing.region[0] <= patch.placing.scaled[0]:
        yield (
            "hires makes the result no larger: it keeps the size of the picture; run `darkroom"
            " hires` on the result instead"
        )
