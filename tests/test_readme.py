"""README.md: its table of flags, its diffs and its commands are true."""

import re
import shlex

import helpers

import gan_mnist

README = helpers.ROOT / "README.md"
ABSENT = {"fashion", "letters"}  # folders of data in the commands that the repository does not have


def test_the_table_has_every_flag_with_its_default():
    rows = re.findall(r"(?m)^\| ((?:`--\w+`(?:, )?)+) \| (.*?) \|", README.read_text())
    names = [name for flags, _ in rows for name in re.findall(r"--(\w+)", flags)]
    values = [value for _, values in rows for value in values.replace("`", "").split(", ")]
    table = gan_mnist.parse_flags([f"--{n}={v}" for n, v in zip(names, values, strict=True)])
    defaults = gan_mnist.parse_flags([])
    assert set(names) == vars(defaults).keys()
    table.output_dir = defaults.output_dir  # has the date in it
    assert table == defaults


def test_every_diff_applies_and_the_edited_script_trains(folder):
    diffs = re.findall(r"(?ms)^```diff\n(.*?)^```", README.read_text())
    assert diffs
    for number, diff in enumerate(diffs):
        old = re.sub(r"(?m)^(\+.*\n|.)", "", diff)
        new = re.sub(r"(?m)^(-.*\n|.)", "", diff)
        program = helpers.load(helpers.edited(folder, (old, new)))
        result = helpers.call(program, f"--output_dir=run{number}", "--max_steps=3")
        assert result.status == 0, diff + result.err


def test_the_commands_run_in_order(folder):
    commands = re.findall(r"(?m)^python gan_mnist.py.*", README.read_text())
    assert commands
    for command in commands:
        flags = shlex.split(command, comments=True)[2:]
        if not ABSENT & set(flags):
            flags += [] if "--sample" in flags else ["--max_steps=20"]
            result = helpers.call(gan_mnist, *flags)
            assert result.status == 0, command + str(result.err)
