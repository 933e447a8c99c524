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

"""volumedrivers volume list, show, attachments."""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
import typing

from volumedrivers.cmd import base
from volumedrivers.cmd import volume


class List(base.Lister):
    """List the volumes of the project in Cinder."""

    COLUMNS = (
        'name',
        'id',
        'status',
        'size_gib',
        'volume_type',
        'attached_to',
        'bootable',
        'multiattach',
        'encrypted',
        'read_only',
    )
    TEXT_COLUMNS = ('name', 'id', 'status', 'size_gib', 'volume_type', 'attached_to')
    NOTHING = 'There is no volume in this project.'
    EPILOG = (
        'Attached to: guests of this host with their target names; what else has the volume '
        f'is named as Cinder does. {volume.OF_CLOUD}'
    )

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Return a row for each volume."""
        return [found.to_dict() for found in self.program.services.volumes.list()]


class Show(base.ShowOne):
    """Show what Cinder and this host know of a volume."""

    EPILOG = (
        f'"volumedrivers show GUEST VOLUME --tree" draws its way on this host. {volume.OF_CLOUD}'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take a volume."""
        parser = super().get_parser(prog_name)
        volume.add_volume(parser)
        return parser

    def act(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Return the volume."""
        found = self.program.services.volumes.show(args.volume).to_dict()
        return _in_words(found) if args.formatter in ('text', 'table') else found


class Attachments(base.Lister):
    """List attachments: Cinder's, and what this host knows of them."""

    COLUMNS = (
        'volume_name',
        'guest',
        'target',
        'host',
        'status',
        'mode',
        'recorded',
        'attachment_id',
        'volume_id',
        'guest_uuid',
    )
    TEXT_COLUMNS = (
        'volume_name',
        'guest',
        'target',
        'host',
        'status',
        'mode',
        'recorded',
        'attachment_id',
    )
    NOTHING = 'Cinder has no attachment, and nothing is recorded on this host.'
    EPILOG = (
        'Recorded is "yes" when this host made the attachment; what is unfinished is for '
        '"volumedrivers recover". A guest with a UUID only is none of this host. Which host it '
        f'is Cinder tells administrators and services only. {volume.OF_CLOUD}'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take a volume, or none for all."""
        parser = super().get_parser(prog_name)
        volume.add_volume(parser, optional=True)
        return parser

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Return a row for each attachment."""
        found = [one.to_dict() for one in self.program.services.volumes.attachments(args.volume)]
        if args.formatter in ('text', 'table'):
            for row in found:
                row['guest'] = row['guest'] or row['guest_uuid']
        return found


def _in_words(found: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Let a person read a line for each attachment, and for each guest."""
    in_words = {
        'attachments': '\n'.join(map(_attachment, found['attachments'])),
        'on_this_host': '\n'.join(
            f'{disk["guest"]} as {disk["target"]}: {disk["state"]}, {disk["source"]}'
            for disk in found['on_this_host']
        ),
    }
    for name in ('encryption', 'qos'):
        if found[name] is None:
            in_words[name] = 'Cinder does not tell this user'
    return found | in_words


def _attachment(one: Mapping[str, typing.Any]) -> str:
    guest = one['guest'] or one['guest_uuid'] or 'no instance'
    target = f' as {one["target"]}' if one['target'] else ''
    host = f' on {one["host"]}' if one['host'] else ''
    recorded = {'yes': 'recorded here', 'no': 'not recorded here'}.get(
        one['recorded'], one['recorded']
    )
    return (
        f'{one["attachment_id"] or "not known yet"}  {one["status"]}, {one["mode"] or "no mode"}, '
        f'{guest}{target}{host}, {recorded}'
    )
