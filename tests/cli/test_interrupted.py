"""Ctrl-C at the command line before there is a command."""

import subprocess
import sys

PROGRAM = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "towline.cli.app":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from towline.cli import main
main()
"""


def test_ctrl_c_while_the_command_is_loaded_ends_it_without_a_trace() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 130
    assert ended.stderr == ""
