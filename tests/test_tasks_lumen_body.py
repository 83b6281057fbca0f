"""The body: lights, LEDs and panel through the real drivers, the drawing, the voice, and outputs that come and go."""

import os
import shutil
import stat
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lumen_lights import Apa102, St7789
from scionwood.errors import UserError
from scionwood.tasks.lumen.body import arc, palette, speech
from scionwood.tasks.lumen.body.dotstar import DotStars
from scionwood.tasks.lumen.body.drawing import GESTURES, SIZE, Drawing
from scionwood.tasks.lumen.body.keeping import Kept
from scionwood.tasks.lumen.body.light import FADE, HIGHEST, LOWEST, Breath, Lamp, Temper
from scionwood.tasks.lumen.body.screen import Panel, rgb565
from scionwood.tasks.lumen.body.twins import Frames, Terminal, lit, picture, told
from scionwood.tasks.lumen.body.voice import CLAUSES, SHAPES, Voice
from scionwood.tasks.lumen.grammar import sequences
from scionwood.tasks.lumen.sensing.readings import reading
from scionwood.tasks.lumen.shapes import SHAPES as NAMES
from scionwood.tasks.lumen.student.assemble import Expression
from scionwood.tasks.lumen.vocabulary import PATTERNS, TOKENS, pattern_of

EXPRESSIONS = [Expression(pattern_of(s), s) for s in sequences()]
expressions = st.sampled_from(EXPRESSIONS)
share = st.floats(0, 1)
STILL = Expression("SINGLE", ("stillness",))
RIPPLE = Expression("REPETITION", ("ripple", "ripple"))


# -- light -----------------------------------------------------------------------------------------------------------------


def test_every_token_has_a_manner_and_all_gestures_are_known():
    assert tuple(palette.MANNERS) == TOKENS
    assert {g for m in palette.MANNERS.values() for g in m.gestures} <= set(GESTURES)
    assert len({m.colour for m in palette.MANNERS.values()}) == len(TOKENS)


@given(st.lists(st.tuples(expressions, share, share, share, share, st.floats(0, 3600)), min_size=1, max_size=8))
def test_brightness_and_colours_stay_within_bounds(steps):
    breath, t = Breath(), 0.0
    for expression, warmth, clarity, stability, presence, wait in steps:
        breath.feel(Temper(warmth, clarity, stability, presence))
        breath.say(expression, t)
        t += wait
        for lamp in breath.at(t):
            assert LOWEST <= lamp.brightness <= HIGHEST and all(0 <= v <= 255 for v in lamp.colour)


def test_the_expression_drives_the_lights():
    def lamps(expression):
        breath = Breath()
        breath.say(expression, -FADE)
        return breath.at(0.0)

    colours = {e: tuple(lamp.colour for lamp in lamps(e)) for e in EXPRESSIONS if e.pattern != "TRIPLE"}
    singles = [e for e in colours if e.pattern == "SINGLE"]
    assert len({colours[e] for e in singles}) == len(TOKENS)
    middle = lamps(STILL)
    assert middle[1].brightness > middle[0].brightness == middle[2].brightness
    left, _, right = lamps(Expression("PAIR", ("warmth", "ripple")))
    assert left.colour != right.colour and left.colour == lamps(Expression("SINGLE", ("warmth",)))[1].colour


def beats(expression, seconds=60, stability=0.5):
    breath = Breath()
    breath.feel(Temper(stability=stability))
    breath.say(expression, -FADE)
    levels = [breath.at(k / 10)[1].brightness for k in range(seconds * 10)]
    return sum(a < b > c for a, b, c in zip(levels, levels[1:], levels[2:]))


def test_a_repetition_beats_twice_and_an_unsteady_body_breathes_faster():
    assert beats(Expression("REPETITION", ("warmth", "warmth"))) >= 1.7 * beats(Expression("SINGLE", ("warmth",)))
    assert beats(STILL, 120, stability=0.0) > 1.5 * beats(STILL, 120, stability=1.0)


def test_one_expression_fades_into_the_next_without_a_jump():
    breath = Breath()
    breath.say(STILL, -FADE)
    seen = [breath.at(k / 20) for k in range(40)]
    breath.say(RIPPLE, 2.0)
    seen += [breath.at(2 + k / 20) for k in range(80)]
    steps = [max(abs(x - y) for x, y in zip(a[1].colour, b[1].colour)) for a, b in zip(seen, seen[1:])]
    assert max(steps) < 25 and seen[-1][1].colour != seen[0][1].colour
    assert max(abs(a[k].brightness - b[k].brightness) for a, b in zip(seen, seen[1:]) for k in range(3)) < 0.02


@pytest.mark.parametrize("bounds", [(0.2, 0.1), (-0.1, 0.5), (0, 1.5)])
def test_wrong_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="bounds"):
        Breath(*bounds)


# -- LEDs and panel through their drivers ----------------------------------------------------------------------------------


@pytest.fixture
def chain(monkeypatch):
    """Three emulated LEDs on two pins that are no SPI bus, as on the board."""
    dotstar = pytest.importorskip("adafruit_dotstar", reason="pip install 'scionwood[device]'")
    chips = Apa102()

    def no_spi(*pins, **named):
        raise ValueError("no hardware SPI on these pins")

    monkeypatch.setattr(dotstar.busio, "SPI", no_spi)
    monkeypatch.setattr(dotstar.digitalio, "DigitalInOut", chips.pins())
    return chips


class PinName:
    """A pin that is not asked for by name."""


def stars(chain, monkeypatch, **more):
    import adafruit_dotstar

    real = chain.pins()
    order = iter(("data", "clock"))  # as the driver sets them up
    monkeypatch.setattr(adafruit_dotstar.digitalio, "DigitalInOut", lambda pin: real(next(order)))
    out = DotStars(PinName(), PinName(), **more)
    out.open()
    return out


def test_what_is_shown_reaches_the_leds(chain, monkeypatch):
    leds = stars(chain, monkeypatch)
    leds.show([Lamp((255, 128, 0), HIGHEST), Lamp((0, 255, 64), HIGHEST / 2), Lamp((10, 20, 255), 0.0)])
    assert leds.current == 4 and [c[3] for c in chain.lit] == [4, 4, 4]
    full = HIGHEST * 31 / 4
    assert chain.lit[0][:3] == (round(255 * full), round(128 * full), 0)
    assert chain.lit[1][:3] == (0, round(255 * full / 2), round(64 * full / 2)) and chain.lit[2][:3] == (0, 0, 0)


def test_the_light_never_exceeds_its_bound_on_the_wire(chain, monkeypatch):
    leds, breath = stars(chain, monkeypatch), Breath()
    for k, expression in enumerate(EXPRESSIONS[::200]):
        breath.say(expression, 10.0 * k)
        for step in range(3):
            leds.show(breath.at(10.0 * k + 3 * step))
            assert all(max(r, g, b) / 255 * current / 31 <= HIGHEST + 1 / 255 for r, g, b, current in chain.lit)


def test_nothing_is_sent_where_nothing_changes_and_the_end_is_dark(chain, monkeypatch):
    leds = stars(chain, monkeypatch)
    lamps = [Lamp((200, 100, 50), 0.1)] * 3
    leds.show(lamps)
    sent = chain.frames
    leds.show(lamps)
    assert chain.frames == sent
    leds.close()
    assert [c[:3] for c in chain.lit] == [(0, 0, 0)] * 3


def test_a_board_without_the_pins_is_told():
    pytest.importorskip("adafruit_dotstar", reason="pip install 'scionwood[device]'")
    with pytest.raises(Exception):
        DotStars("NO_SUCH_PIN", "NO_SUCH_PIN").open()


def noise(seed=0):
    return Image.merge("RGB", [Image.effect_noise((SIZE, SIZE), 90) for _ in range(3)])


@pytest.fixture
def panel():
    pytest.importorskip("adafruit_rgb_display", reason="pip install 'scionwood[device]'")
    chip = St7789()
    out = Panel(chip, chip.pin(), chip.pin(names_data=True))
    out.open()
    return chip, out


def shown(chip):
    """What the emulated panel shows, upright: 16-bit values by place."""
    return {(239 - x, 239 - (y - 80)): v for (x, y), v in chip.memory.items() if y >= 80}


def test_the_drawing_reaches_the_panel(panel):
    chip, out = panel
    image = noise()
    out.show(image)
    pixels = image.load()
    got = shown(chip)
    assert chip.on and len(got) == SIZE * SIZE
    for (x, y), value in got.items():
        r, g, b = pixels[x, y]
        assert value == (r & 0xF8) << 8 | (g & 0xFC) << 3 | b >> 3


def test_only_what_has_changed_is_sent(panel):
    chip, out = panel
    image = noise()
    out.show(image)
    before = chip.written
    out.show(image.copy())
    assert chip.written == before
    image = image.copy()
    image.putpixel((10, 20), (1, 255, 1) if image.getpixel((10, 20))[1] < 128 else (255, 0, 0))
    out.show(image)
    assert chip.written == before + 2 and shown(chip)[10, 20] == int.from_bytes(rgb565(image.crop((10, 20, 11, 21))), "big")


# -- drawing ---------------------------------------------------------------------------------------------------------------


def draw(seed, gestures, expression=STILL, temper=Temper()):
    d = Drawing(seed)
    for _ in range(gestures):
        d.gesture(expression, temper)
    return d


def test_the_drawing_is_deterministic_and_grows():
    a, b = draw(1, 200), draw(1, 200)
    assert a.image().tobytes() == b.image().tobytes() and a.image().size == (SIZE, SIZE)
    assert draw(2, 200).image().tobytes() != a.image().tobytes()
    inks = [len(draw(1, n).cells) for n in (20, 100, 300)]
    assert inks == sorted(inks) and inks[0] < inks[-1]


def test_expression_and_state_shape_the_drawing():
    assert draw(1, 150, RIPPLE).image().tobytes() != draw(1, 150, STILL).image().tobytes()
    assert draw(1, 150, STILL, Temper(stability=0.0)).image().tobytes() != draw(1, 150, STILL, Temper(stability=1.0)).image().tobytes()


def test_a_drawing_ends_and_the_next_begins():
    d, phases = Drawing("x"), []
    for _ in range(arc.MOST + 5):
        d.gesture(RIPPLE, Temper())
        phases.append(d.arc.phase)
        if d.done:
            break
    order = list(dict.fromkeys(phases))
    assert d.done and order == sorted(order, key=arc.PHASES.index) and order[0] == "opening"
    full = len(d.nodes)
    d.gesture(RIPPLE, Temper())
    assert d.number == 2 and d.arc.gestures == 1 and len(d.nodes) < full


def test_the_equations_of_the_drawing():
    """One step by hand from the published start."""
    x = arc.step(arc.Inner(*arc.START), intent=0.8, entropy=0.5, switching=0.5)
    assert x.E == pytest.approx(0.4 + 0.1 * (0.01 * 0.4 - 0.005 * 0.4 * 0.5 + 0.002 * 0.25))
    assert x.I == pytest.approx(0.2 + 0.1 * (0.015 * 0.5 - 0.005 * 0.5 - 0.012 * 0.2))
    assert x.S == pytest.approx(0.5 + 0.1 * (-0.04 * 0.5 + 0.02 * 0.25 - 0.008 * 0.5))
    assert x.V == pytest.approx(0.1 * 0.015 * 0.4) and arc.Inner(0, 0, 0, 0).coherence() == 0.5


def test_entropy_and_switching_of_gestures():
    a = arc.Arc(4)
    for g in "aaaa":
        a.made(g, 0.5, 0.0)
    assert a.entropy() == 0 and a.switching() == 0
    for g in "abcd" * 5:
        a.made(g, 0.5, 0.0)
    assert a.entropy() == pytest.approx(1) and a.switching() == 1


# -- voice -----------------------------------------------------------------------------------------------------------------


def test_every_token_and_shape_has_words():
    assert tuple(CLAUSES) == TOKENS and set(SHAPES) == set(NAMES)


@given(expressions, st.sampled_from(NAMES), st.integers(0, 5))
def test_the_voice_speaks_in_sentences(expression, shape, seed):
    said = Voice(seed).say(expression, shape, reading(0, {"cpu_pct": 97.0}))
    assert said == Voice(seed).say(expression, shape, reading(0, {"cpu_pct": 97.0}))
    assert said[0].isupper() and said[-1] in ".?" and "  " not in said and "_" not in said and "97 percent" in said
    assert ("?" in said or "wonder why" in said) == (expression.pattern == "QUESTION")


def test_nothing_is_told_that_was_not_sensed():
    quiet = Voice().say(STILL, "settled_presence", reading(0, {}))
    assert not any(ch.isdigit() for ch in quiet) and "feel" not in quiet


def test_lost_senses_are_told_once_and_never_missed_where_they_never_were():
    voice = Voice()
    here, gone = reading(0, {"light_lux": 40.0}), reading(0, {})
    assert "no longer" not in voice.say(STILL, "settled_presence", here)
    assert "I can no longer feel the light." in voice.say(STILL, "settled_presence", gone)
    assert "no longer" not in voice.say(STILL, "settled_presence", gone)
    assert "I can feel the light again." in voice.say(STILL, "settled_presence", here)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program on the path that does what a line of Python says; what it is told on stdin goes to a file."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def make(name, body="", heard="heard"):
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\nimport sys, time\ntext = sys.stdin.buffer.read()\n"
                        f"open({str(tmp_path / heard)!r}, 'ab').write(text)\n"
                        f"open({str(tmp_path / heard)!r} + '.args', 'w').write(' '.join(sys.argv[1:]))\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path / heard

    return make


def wait(spoken, seconds=10):
    until = time.monotonic() + seconds
    while spoken.busy():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_sentence_is_spoken_and_one_that_comes_too_soon_is_dropped(program):
    heard = program("espeak-ng", "time.sleep(0.3)")
    spoken = speech.Speech(speech.programs())
    spoken.open()
    assert spoken.say("I am still.") and not spoken.say("I listen.")
    wait(spoken)
    assert heard.read_text() == "I am still.\n" and "--stdin" in (heard.parent / "heard.args").read_text()
    assert spoken.say("I listen.")
    wait(spoken)


def test_piper_is_piped_into_the_player(program, tmp_path):
    program("piper", "sys.stdout.write('sound of ' + text.decode())")
    player = program("aplay", heard="played")
    with pytest.raises(UserError, match="settings"):
        speech.programs(tmp_path / "voice.onnx")
    (tmp_path / "voice.onnx.json").write_text('{"audio": {"sample_rate": 22050}}')
    spoken = speech.Speech(speech.programs(tmp_path / "voice.onnx"))
    spoken.say("I reach out.")
    wait(spoken)
    assert player.read_text() == "sound of I reach out.\n" and "22050" in (tmp_path / "played.args").read_text()


def test_a_program_that_fails_or_hangs_is_a_fault_of_the_output(program, monkeypatch):
    program("espeak-ng", "sys.exit(3)")
    spoken = speech.Speech(speech.programs())
    spoken.say("x")
    with pytest.raises(RuntimeError, match="code 3"):
        wait(spoken)
    program("espeak-ng", "time.sleep(60)")
    monkeypatch.setattr(speech, "LONGEST_S", 0.1)
    spoken.say("x")
    with pytest.raises(RuntimeError, match="cut off"):
        wait(spoken)
    assert not spoken.running and spoken.say("y")
    spoken.close()


def test_espeak_really_speaks(tmp_path):
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed here")
    spoken = speech.Speech([["espeak-ng", "-w", str(tmp_path / "a.wav"), "--stdin"]])
    spoken.say("I am still.")
    wait(spoken)
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"


# -- outputs that come and go, and twins -----------------------------------------------------------------------------------


class Flaky:
    """An output that does what it is told to."""

    name = "flaky"

    def __init__(self):
        self.there, self.slow, self.opened, self.closed, self.used = True, 0.0, 0, 0, 0

    def open(self):
        if not self.there:
            raise OSError("nobody\nthere")
        self.opened += 1

    def use(self):
        time.sleep(self.slow)
        if not self.there:
            raise OSError("pulled out")
        self.used += 1

    def close(self):
        self.closed += 1


def test_an_output_is_lost_told_once_looked_for_later_and_later_and_found_again():
    now, told_lines, out = [0.0], [], Flaky()
    kept = Kept(out, told_lines.append, clock=lambda: now[0])
    kept.do(Flaky.use)
    out.there = False
    looks = []
    for second in range(200):
        now[0] = float(second)
        before = kept.next_look
        kept.do(Flaky.use)
        looks += [second] if kept.next_look != before else []
    assert told_lines == ["flaky: not available (pulled out); going on without"] and out.closed == 1
    assert looks == [0, 5, 15, 35, 75, 155]
    out.there, now[0] = True, 400.0
    kept.do(Flaky.use)
    assert told_lines[1:] == ["flaky: back"] and out.used == 2
    kept.close()
    assert out.closed == 2


def test_an_output_that_hangs_does_not_keep_the_loop(monkeypatch):
    from scionwood.tasks.lumen.body import keeping

    monkeypatch.setattr(keeping, "PATIENCE_S", 0.1)
    out, lines = Flaky(), []
    out.slow = 0.6
    kept = Kept(out, lines.append, hangs=True)
    start = time.monotonic()
    kept.do(Flaky.use)
    assert time.monotonic() - start < 0.5 and "no answer within" in lines[0]
    kept.close()


def test_frames_are_pictures_and_only_the_newest_are_kept(tmp_path):
    frames = Frames(tmp_path / "f", keep=3)
    frames.open()
    drawing, lamps = draw(1, 30).image(), Breath().at(0.0)
    for n in range(5):
        frames.show(n, lamps, drawing, "~stillness~", "I am still. " * 20)
    assert [p.name for p in sorted((tmp_path / "f").iterdir())] == [f"frame-{n:08}.png" for n in (2, 3, 4)]
    with Image.open(tmp_path / "f" / "frame-00000004.png") as image:
        assert image.crop((16, 64, 256, 304)).tobytes() == drawing.tobytes()
        assert image.getpixel((136, 32)) == lit(lamps[1])
    again = Frames(tmp_path / "f", keep=3)
    again.open()
    again.show(9, lamps, drawing, "", "")
    assert len(list((tmp_path / "f").iterdir())) == 3


def test_a_picture_of_the_body_does_not_depend_on_anything_else():
    drawing, lamps = draw(1, 30).image(), Breath().at(0.0)
    assert picture(lamps, drawing, "a", "b").tobytes() == picture(lamps, drawing, "a", "b").tobytes()


def test_a_terminal_shows_colours_only_where_it_can(capsys):
    lamps = Breath().at(0.0)
    question = Expression("QUESTION", ("ripple", "curiosity"))
    for colours in (False, True):
        Terminal(sys.stdout, colours).show(0.0, lamps, "convergence", question, "Why?")
    plain, coloured = capsys.readouterr().out.splitlines()
    assert "\x1b" not in plain and "#" in plain and "~ripple~ ~curiosity~ ?" in plain and plain.endswith("Why?")
    assert "\x1b[38;2;" in coloured and "●" in coloured and told(question) in coloured


def test_patterns_are_all_lit():
    assert {e.pattern for e in EXPRESSIONS} == set(PATTERNS)
