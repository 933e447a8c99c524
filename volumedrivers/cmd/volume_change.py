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

"""volumedrivers volume extend, refresh, swap."""

import argparse
from collections.abc import Mapping
import logging
import typing

from volumedrivers.cinder import extension
from volumedrivers.cmd import base
from volumedrivers.cmd import text
from volumedrivers.cmd import volume

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.plan import Plan

LOG = logging.getLogger(__name__)


class Extend(volume.Operation):
    """Extend a volume in Cinder and in the guests that have it."""

    EPILOG = (
        'Given again after any failure it goes on where it stopped. Guests on other hosts '
        f'learn it there, from Cinder or with the same command. {volume.OF_CLOUD}'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take volume and size."""
        parser = super().get_parser(prog_name)
        volume.add_volume(parser)
        parser.add_argument(
            'size',
            metavar='SIZE',
            type=base.size,
            help='size it is to have, such as 20G, or in bytes; Cinder counts in GiB',
        )
        return parser

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Extend."""
        gib = extension.gibibytes(args.size)
        if args.size % extension.GIB:
            LOG.warning(
                'Cinder counts in GiB: the size becomes %d GiB, and not %s',
                gib,
                text.human_size(args.size),
            )
        result = self.program.services.volumes.extend(args.volume, args.size)
        found = result.to_dict()
        if args.formatter in ('text', 'table'):
            found['guests'] = '\n'.join(map(_guest, found['guests']))
            del found['completed']
        guests = ' and '.join(guest.guest for guest in result.guests)
        seen = f', and guest {guests} sees that.' if guests else '; no guest of this host has it.'
        name = result.volume_name or result.volume_id
        return self.told(found, f'Volume {name} has {text.human_size(result.size)}{seen}')

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what extending would do."""
        return self.program.services.volumes.plan.extend(args.volume, args.size)


class Refresh(volume.Change):
    """Let a guest reach its volume as Cinder says now."""

    EPILOG = (
        'For portals, monitors, exports or credentials of the storage that have changed. The '
        'attachment stays the same one. What cannot be changed while the guest runs is changed '
        f'for its next start. {volume.OF_CLOUD}'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest and volume."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        volume.add_volume(parser, attached=True)
        return parser

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Refresh."""
        result = self.program.services.volumes.refresh(args.guest, args.volume)
        if result.left:
            LOG.warning(
                'of the old ways to volume %s is still there: %s',
                result.volume_id,
                '; '.join(result.left),
            )
        then = f'Guest {result.guest} reaches {volume.named(result)} as Cinder says now.'
        if result.next_start:
            then = f'The rest is for the next start of guest {result.guest}.'
        elif not result.changed:
            then = f'Cinder says nothing new of {volume.named(result)}.'
        return self.told(result.to_dict(), then)


class Swap(volume.Change):
    """Let a guest go over to the volume that Cinder migrates to."""

    EPILOG = (
        'For whoever takes the place of the compute API when Cinder migrates or retypes a '
        'volume in use; Cinder gives the ids. It takes as long as copying all of the volume '
        f'does, while the guest goes on, and Cinder is told how it ended. {volume.OF_CLOUD}'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest and volumes."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        parser.add_argument('volume', metavar='VOLUME_ID', help='id of the volume that it has')
        parser.add_argument(
            'new_volume', metavar='NEW_VOLUME_ID', help='id of the one that Cinder has made'
        )
        parser.add_argument(
            '--bandwidth',
            metavar='SIZE',
            type=base.size,
            default=0,
            help='copy at most so much in a second, such as 100M (default: no limit)',
        )
        return parser

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Swap."""
        result = self.program.services.volumes.swap(
            args.guest, args.volume, args.new_volume, bandwidth=args.bandwidth
        )
        return self.told(
            result.to_dict(),
            f'Guest {result.guest} has {volume.named(result)} in its new place, as '
            f'{result.target}.',
        )


def _guest(done: Mapping[str, typing.Any]) -> str:
    seen = 'sees it' if done['resized_in_guest'] else 'will see it when it starts'
    return f'{done["guest"]} as {done["target"]}: {seen}'
