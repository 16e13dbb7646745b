import hashlib
import itertools
import time
from collections import Counter

import numpy as np
import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.caption_sets import load_captions
from zoo.data.captions import tokenise
from zoo.data.grammar import SplitMix64
from zoo.data.photos import decode
from zoo.data.shape_captions import (
    SHAPE_WORDS,
    SIZE_WORDS,
    WHERE_WORDS,
    Description,
    Statement,
    captions,
    is_complete,
    is_true,
    parse,
)
from zoo.data.shape_scenes import CANVAS, COLOURS, CONTAINERS, SHAPES, Scene, Thing, draw, relation
from zoo.data.shapes import HELD_OUT_PAIRS, HELD_OUT_RELATIONS, IMAGES, builtin_shapes, held_out, scenes


@pytest.fixture(scope="module")
def splits():
    return builtin_shapes()


def thing(shape="circle", colour="red", size="large", x=32, y=32, radius=None):
    return Thing(shape, colour, size, x, y, radius or {"small": 6, "large": 13}[size], (0, 0, 0))


def scene(*things):
    return Scene(things, (40, 40, 40))


SIDE_BY_SIDE = scene(thing("circle", "red", "small", 16, 32), thing("square", "orange", "large", 48, 30))
NESTED = scene(thing("square", "blue", "large", 30, 30), thing("star", "white", "small", 31, 30, radius=5))


def test_the_same_everywhere(splits):
    text, pixels = hashlib.sha256(), hashlib.sha256()
    for split in splits.values():
        for index in range(0, len(split.names), 10):
            pixels.update(decode(split.images.read(index), split.names[index]).tobytes())
        for references in split.references:
            text.update("\n".join(map(" ".join, references)).encode())
    assert text.hexdigest() == "c963b8439e587a0fd6fe31ffcbce9cae80227edaeae3ef1cedf6014ad8ab80ca"
    assert pixels.hexdigest() == "8ec7bfe9cfda8e2402d5bdc6a8e07adadb5b966c2956b86b3657795b12b49853"


@pytest.mark.slow
def test_sizes_and_speed():
    start = time.process_time()
    data = load_captions("builtin_shapes")
    for split, count in IMAGES.items():
        found = getattr(data, split)
        assert len(found.names) == len(found.references) == len(found.images) == count
        assert found.images.name(3) == found.names[3] == f"builtin_shapes/{split}/00003.png"
        assert {len(set(references)) for references in found.references} == {5}
        assert {decode(found.images.read(index), "x").shape for index in range(count)} == {
            (CANVAS, CANVAS, 3)
        }
    assert time.process_time() - start < 10
    words = {word for word in data.vocabulary.words[4:]}
    for split in (data.train, data.valid, data.test):
        for caption in itertools.chain(*split.references):
            assert tokenise(" ".join(caption)) == caption and len(caption) <= 22
            assert words.issuperset(caption)
    assert words > set(itertools.chain(COLOURS, *SHAPE_WORDS.values(), *SIZE_WORDS.values()))


def test_every_reference_is_true_and_complete(splits):
    for split, found in splits.items():
        for shown, references in zip(scenes(split), found.references, strict=True):
            assert all(is_complete(shown, caption) for caption in references)


def test_few_references_are_true_of_another_scene(splits):
    shown = scenes("test")
    references = splits["test"].references
    pairs = [(place, (place + step) % 300) for place in range(300) for step in (1, 7, 50)]
    right = sum(is_true(shown[other], caption) for place, other in pairs for caption in references[place])
    assert right < 0.02 * 5 * len(pairs)


def seen_in(picture, one):
    """Where the pixels are that have a thing's colour, rows and columns."""
    colour = np.clip(np.array(COLOURS[one.colour]) + one.tint, 0, 255)
    return np.argwhere((picture == colour).all(-1))


def test_pictures_show_what_the_scene_says(splits):
    checked = Counter()
    for index, shown in enumerate(scenes("train")[:600]):
        picture = decode(splits["train"].images.read(index), "x")
        for one in shown.things:
            box = (
                slice(one.y - one.radius, one.y + one.radius + 1),
                slice(one.x - one.radius, one.x + one.radius + 1),
            )
            assert min(box[0].start, box[1].start) >= 0 and max(box[0].stop, box[1].stop) <= CANVAS
        if len(shown.things) == 1 or shown.things[0].tint == shown.things[1].tint:
            continue
        first, second = (seen_in(picture, one) for one in shown.things)
        stands = relation(*shown.things)
        checked[stands] += 1
        (top1, left1), (bottom1, right1) = first.min(0), first.max(0)
        (top2, left2), (bottom2, right2) = second.min(0), second.max(0)
        assert {
            "left": right1 < left2,
            "right": right2 < left1,
            "above": bottom1 < top2,
            "below": bottom2 < top1,
            "inside": left2 < left1 and right1 < right2 and top2 < top1 and bottom1 < bottom2,
        }[stands], (index, shown)
    assert min(checked[stands] for stands in ("left", "right", "above", "below", "inside")) > 20


def test_what_is_inside_is_seen_whole_and_on_all_sides():
    """No pixel around a shape that is inside another shows the background."""
    background = (40, 40, 40)
    for outer, inner, radius in itertools.product(CONTAINERS, SHAPES, (13, 14)):
        for x, y in itertools.product((-1, 0, 1), repeat=2):
            held = thing(inner, "white", "small", 32 + x, 32 + y, radius=5)
            holder = thing(outer, "blue", "large", 32, 32, radius=radius)
            alone, both = draw(Scene((holder,), background)), draw(Scene((held, holder), background))
            inside = (alone == COLOURS["blue"]).all(-1)
            changed = (alone != both).any(-1)
            assert changed.sum() > 20 and inside[changed].all(), (outer, inner)
            assert relation(held, holder) == "inside" and relation(holder, held) == "around"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [5, 13])
def test_shapes_have_their_areas(shape, radius):
    """Covered pixels against the areas of geometry, in square radii."""
    area = {
        "circle": np.pi,
        "square": 1.7**2,
        "triangle": 0.5 * 1.9 * 1.75,
        "diamond": 2 * 0.9,
        "cross": 2 * 0.66 * 2 - 0.66**2,
        "star": 5 * 0.45 * np.sin(np.pi / 5),
    }[shape] * radius**2
    picture = draw(Scene((Thing(shape, "white", "large", 32, 32, radius, (0, 0, 0)),), (0, 0, 0)))
    assert picture[:, :, 0].sum() / 240 == pytest.approx(area, rel=0.03 if radius > 5 else 0.06)
    rows, columns = np.nonzero(picture[:, :, 0])
    assert abs(columns.mean() - 32) < 0.2
    assert max(abs(rows - 32).max(), abs(columns - 32).max()) <= radius
    np.testing.assert_array_equal(picture[:, 1:], picture[:, :0:-1])  # alike on the left and on the right


def test_held_out_combinations_are_not_in_training_and_their_words_are():
    for split, kinds in (("train", {None: 9600}), ("valid", {None: 150, "colour": 75, "relation": 75})):
        assert Counter(map(held_out, scenes(split))) == kinds
    test = [held_out(shown) for shown in scenes("test")]
    assert Counter(test) == {None: 150, "colour": 75, "relation": 75}
    assert test[:4] == [None, "colour", None, "relation"]
    # By a second way, from what can be said of the scenes.
    pairs, stands = Counter(), Counter()
    for shown in scenes("train"):
        pairs.update((one.colour, one.shape) for one in shown.things)
        if len(shown.things) == 2:
            for one, other in itertools.permutations(shown.things):
                stands[relation(one, other), one.shape, other.shape] += 1
    assert set(itertools.product(COLOURS, SHAPES)) - set(pairs) == HELD_OUT_PAIRS
    possible = {
        *itertools.product(("left", "above"), SHAPES, SHAPES),
        *itertools.product(("inside",), SHAPES, CONTAINERS),
    }
    assert possible - set(stands) == HELD_OUT_RELATIONS
    assert min(Counter(colour for colour, _ in pairs.elements()).values()) > 200
    assert min(Counter(shape for _, shape in pairs.elements()).values()) > 200


def test_held_out_by_hand():
    assert held_out(scene(thing("star", "red"))) == "colour"
    assert held_out(scene(thing("star", "blue"))) is None
    star, cross = thing("star", "blue", x=16), thing("cross", "red", x=48)
    assert held_out(scene(star, cross)) == held_out(scene(cross, star)) == "relation"
    assert held_out(scene(thing("star", "blue", x=48), thing("cross", "red", x=16))) is None
    with pytest.raises(
        InputError, match="unknown split 'dev' of builtin_shapes: accepted train, valid, test"
    ):
        scenes("dev")


@pytest.mark.parametrize(
    ("caption", "true"),
    [
        ("a red circle", True),
        ("there is a small red circle", True),
        ("there is a large red circle", False),
        ("a blue circle", False),
        ("a circle that is tiny and red", True),
        ("a circle that is red", True),
        ("a circle that is huge and red", False),
        ("an orange square", True),
        ("a large orange box", True),
        ("a red circle is left of an orange square", True),
        ("a little red disc on the left of a huge orange box", True),
        ("a red circle is right of an orange square", False),
        ("the picture shows an orange box to the right of a red disc", True),
        ("an orange square is left of a red circle", False),
        ("a red circle is above an orange square", False),
        ("a red circle and an orange square", True),
        ("there is an orange square and a red circle", True),
        ("a red circle and a red circle", False),
        ("a red circle and a blue square", False),
        ("a red circle with an orange square on its right", True),
        ("a red circle with an orange square on its left", False),
        ("there is an orange square with a small red circle on its left", True),
        ("an orange square contains a red circle", False),
        ("an orange square with a red circle inside it", False),
    ],
)
def test_truth_side_by_side(caption, true):
    assert parse(caption.split()) is not None
    assert is_true(SIDE_BY_SIDE, caption.split()) == true
    assert is_complete(SIDE_BY_SIDE, caption.split()) == (
        true and ("circle" in caption or "disc" in caption) and ("square" in caption or "box" in caption)
    )


@pytest.mark.parametrize(
    ("caption", "true"),
    [
        ("a white star inside a blue square", True),
        ("a white star is in a large blue box", True),
        ("a blue square has a tiny white star inside it", True),
        ("a blue square contains a white star", True),
        ("a blue square around a white star", True),
        ("a blue square with a white star inside it", True),
        ("a white star around a blue square", False),
        ("a white star is above a blue square", False),
        ("a white star contains a blue square", False),
    ],
)
def test_truth_of_nested_things(caption, true):
    assert is_true(NESTED, caption.split()) == true


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a",
        "a circle",
        "red circle",
        "a red red circle",
        "an red circle",
        "a orange square",
        "an large orange square",
        "a red small circle",
        "a red circle is an orange square",
        "a red circle left",
        "a red circle is left of",
        "there is",
        "there is a red circle is left of an orange square",
        "a red circle is left of an orange square inside it",
        "a red circle and an orange square and a red circle",
        "a red circle with an orange square inside",
        "a square that is orange and large",
        "a circle that is red circle",
        "a red circle <end>",
        "a red circle .",
        "A red circle",
    ],
)
def test_what_is_not_grammatical(caption):
    assert parse(caption.split()) is None
    assert not is_true(SIDE_BY_SIDE, caption.split()) and not is_complete(SIDE_BY_SIDE, caption.split())


def test_a_word_with_a_space_is_no_word():
    assert parse(["a red", "circle"]) is None and parse(["a", "red", "circle"]) is not None
    assert parse(["a", "", "red", "circle"]) is None


def test_what_a_caption_says():
    one, other = Description("circle", "red", "small"), Description("square", "orange", None)
    assert parse("a little red disc is over an orange box".split()) == Statement((one, other), "above")
    assert parse("a disc that is tiny and red with an orange square below it".split()) == Statement(
        (one, other), "above"
    )
    assert parse("there is an orange square".split()) == Statement((other,), None)


def test_captions_of_a_scene_have_one_meaning_each_and_say_all_there_is():
    """Thousands of captions of four scenes: all true there, false where things change places or looks."""
    generator = SplitMix64(9)
    above = scene(thing("star", "pink", y=16), thing("cross", "white", y=48))
    for shown in (SIDE_BY_SIDE, NESTED, above):
        said = captions(shown, 400, generator)
        assert len(set(said)) == 400
        meant = {parse(caption).relation for caption in said}
        stands = relation(*shown.things)
        opposite = {"left": "right", "above": "below", "around": "inside"}[stands]
        assert meant == {None, stands, opposite}
        first, second = shown.things
        swapped = scene(
            thing(first.shape, first.colour, first.size, second.x, second.y, first.radius),
            thing(second.shape, second.colour, second.size, first.x, first.y, second.radius),
        )
        recoloured = scene(thing(first.shape, "green", first.size, first.x, first.y, first.radius), second)
        for caption in said:
            related = parse(caption).relation is not None
            assert is_true(shown, caption)
            assert not is_true(recoloured, caption)
            if stands != "around":
                assert is_true(swapped, caption) == (not related)
    words = {word for caption in said for word in caption}
    assert words >= set(" ".join(WHERE_WORDS["above"] + WHERE_WORDS["below"]).split())


def test_relations_by_hand():
    first = thing(x=20, y=20, size="small")
    for x, y, expected in ((40, 22, "left"), (2, 18, "right"), (22, 40, "above"), (18, 2, "below")):
        assert relation(first, thing(x=x, y=y)) == expected
