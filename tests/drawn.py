"""Pictures drawn for tests: a face that detectors know, things before a plain wall.

face_picture(160) -> RGB, 320 px a side, the face in the middle half
"""

from PIL import Image, ImageDraw, ImageFilter

EYES_AND_MOUTH = ((0.33, 0.425), (0.67, 0.425), (0.36, 0.76), (0.64, 0.76))  # of the face's side


def face_picture(side: int) -> Image.Image:
    """A face `side` px large, with as much wall around it."""
    picture = Image.new("RGB", (2 * side, 2 * side), (90, 120, 150))
    draw = ImageDraw.Draw(picture)
    start = side // 2

    def ellipse(left, top, right, bottom, color):
        box = tuple(start + share * side for share in (left, top, right, bottom))
        draw.ellipse(box, fill=color)

    def line(left, right, y, color, width):
        ends = [(start + x * side, start + y * side) for x in (left, right)]
        draw.line(ends, fill=color, width=width)

    ellipse(0.1, -0.1, 0.9, 0.6, (50, 30, 20))
    ellipse(0.15, 0, 0.85, 1, (225, 180, 150))
    for x in (0.33, 0.67):
        ellipse(x - 0.09, 0.38, x + 0.09, 0.47, (250, 250, 250))
        ellipse(x - 0.035, 0.385, x + 0.035, 0.465, (40, 25, 20))
        line(x - 0.1, x + 0.1, 0.33, (60, 40, 30), max(2, side // 40))
    ellipse(0.44, 0.5, 0.56, 0.64, (205, 150, 125))
    ellipse(0.36, 0.72, 0.64, 0.8, (170, 60, 60))
    line(0.36, 0.64, 0.76, (110, 30, 30), 2)
    return picture.filter(ImageFilter.GaussianBlur(side / 100))


def ball(size=(160, 120), *, box=(40, 30, 100, 90), color=(200, 30, 40), wall=(240, 240, 235)):
    """A ball before a wall that grows darker to the right, with soft edges."""
    large = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(large).ellipse([4 * edge for edge in box], fill=255)
    mask = large.resize(size, Image.Resampling.BOX)
    picture = Image.new("RGB", size)
    for x in range(size[0]):
        shade = tuple(round(value * (1 - 0.15 * x / size[0])) for value in wall)
        picture.paste(shade, (x, 0, x + 1, size[1]))
    picture.paste(color, (0, 0), mask)
    return picture, mask
