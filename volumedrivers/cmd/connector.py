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

"""volumedrivers connector show."""

import argparse
from collections.abc import Mapping
import typing

from volumedrivers.cmd import base


class ConnectorShow(base.ShowOne):
    """Show who this host is to Cinder."""

    EPILOG = (
        'The json format is what Cinder takes as a connector. --compare shows what has changed '
        'since an attachment was made, and for which protocols that matters.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take what to write and what to compare with."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--write-host-files',
            action='store_true',
            help='make /etc/nvme/hostnqn and hostid if they are missing (default: write nothing)',
        )
        parser.add_argument(
            '--compare',
            metavar='FILE',
            help='JSON file with an earlier connector; "-" is standard input',
        )
        return parser

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Return the properties, or what differs from the earlier ones."""
        earlier = None if args.compare is None else base.read_json('--compare', args.compare)
        from volumedrivers.host import connector_properties  # noqa: PLC0415

        services = self.program.services
        services.set_up()
        found = connector_properties.get_connector_properties(
            services.conf, write_host_files=args.write_host_files
        )
        if earlier is None:
            return found
        return {
            one.key: {'was': one.old, 'is': one.new, 'matters_for': list(one.protocols)}
            for one in connector_properties.compare(earlier, found)
        }
