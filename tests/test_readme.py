"""README.md: its quotes, diffs, commands and program; the links of both pages; the flags' table."""

import re
import shlex

import helpers
import pytest

import gan_mnist

README = (helpers.ROOT / "README.md").read_text()
REFERENCE = (helpers.ROOT / "tests/experiments/README.md").read_text()
LONG = {"--max_steps": "20", "--sample": "3"}  # what takes long is shortened


def blocks(kind):
    """Returns the code blocks of a kind, such as python or diff."""
    found = re.findall(rf"(?ms)^```{kind}\n(.*?)^```", README)
    assert found
    return found


def shortened(command):
    """Returns the flags of a command, with few steps and few digits."""
    flags = shlex.split(command, comments=True)[2:]
    for name, value in LONG.items():
        if name in flags:
            flags[flags.index(name) + 1] = value
    return flags if {"--max_steps", "--sample"} & set(flags) else [*flags, "--max_steps=20"]


def test_the_table_has_every_flag_with_its_default():
    rows = re.findall(r"(?m)^\| ((?:`--\w+`(?:, )?)+) \| (.*?) \|", REFERENCE)
    names = [name for flags, _ in rows for name in re.findall(r"--(\w+)", flags)]
    values = [value for _, values in rows for value in values.replace("`", "").split(", ")]
    table = gan_mnist.parse_flags([f"--{n}={v}" for n, v in zip(names, values, strict=True)])
    defaults = gan_mnist.parse_flags([])
    assert set(names) == vars(defaults).keys()
    table.output_dir = defaults.output_dir  # has the date in it
    assert table == defaults


def test_what_it_quotes_stands_in_the_script():
    script = helpers.SCRIPT.read_text()
    quotes = [block for block in blocks("python") if "import gan_mnist" not in block]
    assert [quote for quote in quotes if quote not in script] == []
    assert "def generator" in quotes[0] and "gan.session.run(gan.D_update" in quotes[-1]


@pytest.mark.parametrize("page", ["README.md", "tests/experiments/README.md"])
def test_its_links_and_pictures_exist(page):
    path = helpers.ROOT / page
    targets = re.findall(r'\]\((.*?)\)|src="(.*?)"', path.read_text())
    local = ["".join(pair) for pair in targets if "://" not in "".join(pair)]
    assert local
    for target in local:
        file, _, section = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        headings = re.findall(r"(?m)^#+ (.*)", linked.read_text()) if section else []
        slugs = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
        assert not section or section in slugs, target


def test_every_diff_applies_and_the_edited_script_trains(folder):
    for number, diff in enumerate(blocks("diff")):
        old = re.sub(r"(?m)^(\+.*\n|.)", "", diff)
        new = re.sub(r"(?m)^(-.*\n|.)", "", diff)
        program = helpers.load(helpers.edited(folder, (old, new)))
        result = helpers.call(program, f"--output_dir=run{number}", "--max_steps=3")
        assert result.status == 0, diff + result.err


def test_its_commands_and_its_program_run_in_order(folder):
    commands = re.findall(r"(?m)^python gan_mnist.py.*", README)
    assert commands
    for command in commands:
        result = helpers.call(gan_mnist, *shortened(command))
        assert result.status == 0, command + str(result.err)
    (program,) = [block for block in blocks("python") if "import gan_mnist" in block]
    result = helpers.finish(helpers.start("-c", program, PYTHONPATH=str(helpers.ROOT)))
    assert result.status == 0, result.err
    assert (folder / "outputs/walk.png").exists()
