"""The shape of the command line: help without heavy imports, exit codes, one-line errors."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

import fairlead as package
from fairlead.cli.failures import describe, report
from fairlead.errors import ConfigError, StorageError

COMMAND = [sys.executable, "-m", "fairlead.cli.main"]
HEAVY = ("kfp", "sqlalchemy", "torch", "transformers", "kserve", "polars", "minio", "sklearn", "pyarrow", "numpy")


def test_help_imports_nothing_heavy():
    program = f"""
        import sys
        from fairlead.cli.main import main
        main(["--help"])
        print("LOADED", sorted(set({HEAVY!r}) & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_version(fairlead):
    outcome = fairlead("--version")
    assert (outcome.code, outcome.out) == (0, f"fairlead {package.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["comfig"], "error: fairlead: no such command 'comfig'"),
        (["config", "show", "--dat", "x"], "error: fairlead config show: no such option"),
        (["config", "show", "--data"], "error: fairlead: option '--data' requires an argument"),
    ],
)
def test_a_usage_error_is_one_line_and_exits_2(fairlead, arguments, sentence):
    outcome = fairlead(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith(sentence) and outcome.err.count("\n") == 1
    assert outcome.err.rstrip().endswith("--help")


def test_debug_adds_the_traceback_wherever_it_stands(fairlead):
    for arguments in (["--debug", "config", "explain", "nothing"], ["config", "explain", "nothing", "--debug"]):
        outcome = fairlead(*arguments)
        assert outcome.code == 2
        assert outcome.err.startswith("Traceback") and "ConfigError" in outcome.err
    assert "Traceback" not in fairlead("config", "explain", "nothing").err


def test_exit_codes_tell_the_users_mistake_from_ours():
    assert describe(ConfigError("a: b; c")) == ("a: b; c", 2)
    assert describe(StorageError("a: b; c")) == ("a: b; c", 1)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")
    assert describe(full) == (
        "fairlead: No space left on device (/data/x); free space or correct the path, then run again",
        1,
    )
    sentence, code = describe(KeyError("x"))
    assert code == 1 and "KeyError" in sentence and "--debug" in sentence


def test_a_message_of_many_lines_is_printed_on_one(capsys):
    assert report(StorageError("a:\n  b;\n  c"), debug=False) == 1
    assert capsys.readouterr().err == "error: a: b; c\n"


def test_ctrl_c_exits_130_without_a_traceback():
    program = """
        import sys, time, typer
        from fairlead.cli import main
        @main.app.command()
        def wait():
            print("waiting", flush=True)
            time.sleep(60)
        sys.exit(main.main(["wait"]))
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (130, "")


def test_a_reader_that_leaves_is_no_error():
    child = subprocess.Popen(
        [*COMMAND, "config", "explain", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stderr
    child.stdout.close()
    err = child.stderr.read()
    assert (child.wait(timeout=20), err) == (1, "")


def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "config", "explain"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: fairlead: No space left on device; free space or correct the path, then run again\n"


def test_a_terminal_that_is_not_utf8_is_no_failure():
    program = """
        import sys, typer
        from fairlead.cli import main
        main.app.command("mark")(lambda: print("\\u2713 done"))
        sys.exit(main.main(["mark"]))
    """
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "? done\n"), done.stderr
