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

"""volumedrivers audit, recover, forget."""

import argparse
import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import logging
import typing

from volumedrivers import exception
from volumedrivers.cmd import base
from volumedrivers.cmd import dry_run
from volumedrivers.cmd import errors
from volumedrivers.cmd import text

LOG = logging.getLogger(__name__)

_ALL_AGREE = 'The journal, the guests, this host and Cinder agree.'
_SEVERITY_WIDTH = 9
_UNSETTLED = ('failed', 'running')
# How a dry run calls what would be done.
_WOULD = {
    'finished': 'would be finished',
    'undone': 'would be undone',
    'reconnected': 'would be reconnected',
    'running': 'would be left alone',
    'failed': 'would fail',
}

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.manager import VolumeManager
    from volumedrivers.attachment.manager import AttachmentManager
    from volumedrivers.attachment.plan import Plan
    from volumedrivers.attachment.plan import PlannedOutcome
    from volumedrivers.attachment.results import Result


class Audit(base.Lister):
    """Compare journal, guests and this host; change nothing."""

    COLUMNS = (
        'severity',
        'kind',
        'guest',
        'guest_uuid',
        'volume_name',
        'volume_id',
        'what',
        'detail',
        'what_to_do',
    )
    TEXT_COLUMNS = (
        'severity',
        'kind',
        'guest',
        'volume_name',
        'volume_id',
        'what',
        'detail',
        'what_to_do',
    )
    NOTHING: str = 'The journal, the guests and this host agree.'
    EPILOG = (
        f'For cron: exits with 0 if there is no problem (notes are none), and with '
        f'{errors.DISAGREEMENT} if there is one.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take --problems."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--problems', action='store_true', help='leave out the notes')
        _add_no_cinder(parser)
        return parser

    def act(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Return a row for each finding."""
        services = self.program.services
        services.set_up(only_look=True)
        manager = None if args.no_cinder else services.volumes_to_check()
        if manager is not None:
            self.NOTHING = _ALL_AGREE
        found = (manager or services.manager).audit()
        names = services.host_only.names()
        rows = [one.to_dict() | {'volume_name': names.get(one.volume_id) or None} for one in found]
        if any(row['severity'] == 'problem' for row in rows):
            self.exit_code = errors.DISAGREEMENT
        return [row for row in rows if row['severity'] == 'problem' or not args.problems]

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[typing.Any]],
    ) -> int:
        """Print sentences with what to do below them, or what a format says."""
        if parsed_args.formatter != 'text' or parsed_args.columns or parsed_args.long:
            return int(super().produce_output(parsed_args, column_names, data))
        rows = [dict(zip(column_names, row, strict=True)) for row in data]
        if not rows:
            return int(super().produce_output(parsed_args, column_names, []))
        width = text.terminal_width(self.app.stdout)
        for row in rows:
            self.app.stdout.writelines(f'{line}\n' for line in _lines(row, width))
        counted = collections.Counter(row['severity'] for row in rows)
        said = ', '.join(f'{number} {severity}' for severity, number in sorted(counted.items()))
        self.app.stdout.write(f'\n{len(rows)} finding{"s"[: len(rows) > 1]}: {said}\n')
        return 0


class Recover(dry_run.Operations):
    """Finish or undo what was interrupted."""

    COLUMNS = (
        'guest',
        'volume_name',
        'volume_id',
        'operation',
        'step',
        'action',
        'detail',
        'seconds',
        'guest_uuid',
    )
    TEXT_COLUMNS = ('guest', 'volume_id', 'operation', 'action', 'detail')
    _NAMED_COLUMNS = ('guest', 'volume_name', 'volume_id', 'operation', 'action', 'detail')
    PLAN_COLUMNS = (
        'guest',
        'volume_name',
        'volume_id',
        'operation',
        'step',
        'action',
        'detail',
        'seconds',
        'steps',
        'guest_uuid',
    )
    PLAN_TEXT_COLUMNS = TEXT_COLUMNS
    NOTHING = 'Nothing was interrupted.'
    EPILOG = (
        'Safe beside running operations, which are left alone, and safe to run again. After '
        'a reboot the volumes of all guests are connected again. For cron: exits with 0 if '
        'nothing is left to do, and with 5 if something could not be done or is still running; '
        'run it again later.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take the infos of volumes with credentials."""
        parser = super().get_parser(prog_name)
        base.add_connection_infos(parser)
        _add_no_cinder(parser)
        return parser

    def read(self, args: argparse.Namespace) -> None:
        """Read the files."""
        self._infos = self.connection_infos(args.connection_info)

    def do(self, args: argparse.Namespace) -> Iterable[Mapping[str, typing.Any]]:
        """Return a row for each attachment that was looked after."""
        return [self.row(outcome) for outcome in self._manager(args).recover(self._infos)]

    def plan(self, args: argparse.Namespace) -> 'Iterable[PlannedOutcome]':
        """Say what recovering would do."""
        return self._manager(args).plan.recover(self._infos)

    def _manager(self, args: argparse.Namespace) -> 'AttachmentManager | VolumeManager':
        services = self.program.services
        # Before anything is done: then it is not recorded any more.
        self._names = services.host_only.names()
        manager = None if args.no_cinder else services.volumes_to_check()
        if services.why_no_cinder is not None:
            LOG.warning('only guests and this host are recovered: %s', services.why_no_cinder)
        return manager or services.manager

    def columns(self, args: argparse.Namespace, *, short: bool) -> tuple[str, ...]:
        """Return the names of the columns; names in Cinder where there are any."""
        if short and any(self._names.values()):
            return self._NAMED_COLUMNS
        return super().columns(args, short=short)

    def row(self, result: 'Result') -> Mapping[str, typing.Any]:
        """Return what is printed of one, with the volume's name."""
        row = result.to_dict()
        return row | {'volume_name': self._names.get(row['volume_id']) or None}

    def settle(self, rows: Sequence[Mapping[str, typing.Any]]) -> None:
        """Let what has to be done again count."""
        # One that was interrupted before a reboot has two; the last counts.
        last = {
            (row['guest_uuid'], row['volume_id'] or row['detail']): row['action'] for row in rows
        }
        if any(action in _UNSETTLED for action in last.values()):
            self.exit_code = exception.RetryLater.exit_code

    def lines(self, row: Mapping[str, typing.Any], width: int | None) -> Iterable[str]:
        """Return the lines of what would be done with one attachment, or one mount."""
        would = _WOULD[row['action']]
        name = row['volume_name']
        volume = f'volume {name}, {row["volume_id"]}' if name else f'volume {row["volume_id"]}'
        if not row['volume_id']:
            what = 'the share'
            would = would.replace('finished', 'unmounted')
        elif row['operation']:
            what = (
                f'{row["operation"]} of {volume} and guest {row["guest"]}, '
                f'stopped in step {row["step"] or "none"},'
            )
        else:
            what = f'{volume} of guest {row["guest"]}'
            would = would.replace('finished', 'removed')
        yield from dry_run.wrapped('', f'Nothing is done; {what} {would}:', width)
        yield from dry_run.wrapped('  ', row['detail'], width)
        yield from dry_run.step_lines(row['steps'], width)


class Forget(dry_run.Operation):
    """Take an attachment out of the journal; touch nothing else."""

    EPILOG = (
        'For what was cleaned up by hand. Refused while the guest has the volume or something '
        'of it is on this host, unless --force.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take guest and volume."""
        parser = super().get_parser(prog_name)
        base.add_guest(parser)
        base.add_volume(parser)
        parser.add_argument(
            '--force', action='store_true', help='even if something of it is still there'
        )
        return parser

    def read(self, args: argparse.Namespace) -> None:
        """Read nothing."""

    def plan(self, args: argparse.Namespace) -> 'Plan':
        """Say what forgetting would do."""
        return self.program.services.host_only.plan_forget(
            args.guest, args.volume, force=args.force
        )

    def do(self, args: argparse.Namespace) -> Mapping[str, typing.Any]:
        """Return what was forgotten."""
        result, side = self.program.services.host_only.forget(
            args.guest, args.volume, force=args.force
        )
        if result.leftovers:
            LOG.warning(
                'of volume %s is still here, and nobody will remove it: %s',
                result.volume_id,
                ', '.join(result.leftovers),
            )
        if side is not None:
            LOG.warning(
                'Cinder keeps attachment %s of volume %s; when nothing of the volume is on this '
                'host, "openstack --os-volume-api-version 3.27 volume attachment delete %s" '
                'takes it away',
                side.attachment_id,
                side.volume_name or result.volume_id,
                side.attachment_id,
            )
        return {
            'forgotten': True,
            **result.to_dict(),
            'cinder': None if side is None else side.to_dict(),
        }


def _add_no_cinder(parser: argparse.ArgumentParser) -> None:
    """Take --no-cinder."""
    parser.add_argument(
        '--no-cinder',
        action='store_true',
        help='guests and this host only; Cinder, where it is configured or something is '
        'recorded of it, is not asked',
    )


def _lines(row: Mapping[str, typing.Any], width: int | None) -> Iterable[str]:
    indent = ' ' * _SEVERITY_WIDTH
    words = (row['kind'], row['guest'], row.get('volume_name'), row['volume_id'])
    head = ' '.join(word for word in words if word)
    yield f'{row["severity"]:<{_SEVERITY_WIDTH}}{head}'
    said = ': '.join(part for part in (row['what'], row['detail']) if part)
    yield from (f'{indent}{line}' for line in text.wrap(said, width, indent=_SEVERITY_WIDTH))
    if row['what_to_do']:
        advice = text.wrap(row['what_to_do'], width, indent=_SEVERITY_WIDTH + 3)
        yield f'{indent}-> {advice[0]}'
        yield from (f'{indent}   {line}' for line in advice[1:])
