#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Commands about the command line itself."""

import argparse

from cliff import complete

from volumedrivers.cmd import base


class Help(base.Base):
    """Show the commands, or the options of one."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take the words of a command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('command', nargs='*', help='such as: driver show')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Print to standard output."""
        self.program.show_help(parsed_args.command)
        return 0


class Complete(base.Base, complete.CompleteCommand):
    """Print shell completion."""

    EPILOG = 'For bash, with its package bash-completion: source <(volumedrivers complete)'
