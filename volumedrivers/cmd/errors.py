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

"""Say what went wrong: one function explains every error, one gives its exit code."""

import argparse
import traceback
import typing

from volumedrivers import exception
from volumedrivers.cmd import secrecy
from volumedrivers.cmd import signals
from volumedrivers.cmd import text

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.failure import Failure

OK = 0
INTERRUPTED = 130  # as a shell counts SIGINT
DISAGREEMENT = 8
BROKEN_PIPE = 141  # and SIGPIPE
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h

EXIT_CODES = """\
exit codes:
  0   done; "attach" also when some paths are missing, unless --fail-degraded
  1   it failed; the cause is printed
  2   the request is wrong; nothing was done
  3   this host has to be repaired or configured first
  4   refused because data is at risk; a person has to look
  5   the same command may succeed later; "recover": something is left to do
  6   nothing to do: it is already so
  7   usable, but less than was asked for (attach --fail-degraded, repair)
  8   "audit" found a problem
  70  unexpected; please report it
  130 interrupted; 143 and 129 by SIGTERM and SIGHUP, which are the same"""

# What to do, by class; the nearest class of an error counts.  An error whose
# own sentence says it has an empty advice.
_ADVICE: dict[type[exception.VolumeDriversError], str] = {
    exception.VolumeDriversError: 'Read the cause; the same command may be given again.',
    exception.BadInput: 'Correct the request; nothing was done.',
    exception.GuestNotFound: '',
    exception.VolumeDriverNotFound: 'Install the package that has the driver, or correct '
    'driver_volume_type; "volumedrivers driver list" shows what there is.',
    exception.VolumeNotFound: '"volumedrivers volume list" shows those of this project.',
    exception.VolumeNotUnique: '',
    exception.WrongVolumeState: 'Bring it into that state in Cinder first; "volumedrivers '
    'volume attachments" shows who has it.',
    exception.MisconfiguredHost: 'Repair this host first; "volumedrivers host check" shows '
    'what it lacks.',
    exception.PluginConflict: '',
    exception.MultipathNotRunning: '',
    exception.ToolMissing: '',
    exception.CinderNotConfigured: 'Name a cloud of clouds.yaml with --os-cloud or OS_CLOUD, set '
    'the OS_* variables, or fill in group [cinder] of the configuration.',
    exception.CinderTooOld: 'Update Cinder, or let somebody do this who can.',
    exception.CinderForbidden: 'Check the user, its project and its roles.',
    exception.ServiceRoleNeeded: 'Configure a user with the role service in group '
    '[service_user], then give the same command again.',
    exception.EncryptionNotSupported: "Do as the reason says, or change the volume's type in "
    'Cinder.',
    exception.JournalUnusable: 'Repair it first; until then nothing is attached or detached.',
    exception.DataAtRisk: 'Nothing was removed, to keep the data safe. Find out why before '
    'you try again.',
    exception.UnstableDevicePath: '',
    exception.PathOutsideShare: 'Do not use this volume before its name in Cinder is explained.',
    exception.UnsafeImage: 'Inspect the file with "qemu-img info" on a host without guests.',
    exception.WrongMount: '',
    exception.ShrinkRefused: 'Give the size in bytes, or such as 10G; it can only grow.',
    exception.FlushFailed: '',
    exception.LeftoversFound: 'Look at these devices; when nothing uses them, '
    '"volumedrivers recover" removes them.',
    exception.FormatRefused: 'If the volume is new and nothing is on it, give --allow-format; '
    'else find out who wrote it.',
    exception.AttachedElsewhere: 'Do it on the host or with the guest that has it; '
    '"volumedrivers volume attachments" shows which.',
    exception.AttachmentLost: 'Detach the volume from the guest at once, and attach it again.',
    exception.StillInUse: 'Detach it, or give --force to forget it all the same.',
    exception.RetryLater: 'Try again later; nothing is wrong with the request.',
    exception.HypervisorUnavailable: 'Check that libvirtd runs and that --connect names the '
    'right URI ("virsh -c URI list").',
    exception.CinderUnavailable: 'Check Cinder and the network to it, then give the same '
    'command again; "volumedrivers recover" settles what is left.',
    exception.EndpointUnreachable: 'Check the storage and the network to it, then try again.',
    exception.VolumeDeviceNotFound: 'Check that the volume is exported to this host '
    '("volumedrivers connector show" is who this host says it is), then try again.',
    exception.DetachTimeout: 'Check that its operating system has booted and runs and that '
    'its storage answers, then give the same command again.',
    exception.LockHeld: 'Wait for it; "volumedrivers list" shows what is unfinished.',
    exception.Unfinished: '',
    exception.KeyUnavailable: 'Check the key manager, and group [key_manager] of the '
    'configuration, then try again.',
    exception.RefreshRefused: 'Stop the guest, refresh the volume, and start the guest again.',
    exception.NothingToDo: 'Nothing; it is already so.',
    exception.NotRecorded: 'Nothing, if it is detached already; "volumedrivers list" shows '
    'what is recorded.',
    exception.Degraded: 'The volume can be used; repair the failed paths.',
    exception.CopyFailed: "Read the log of the guest's QEMU; the guest has what it had.",
    exception.OperationFailed: 'Read the cause; the same command may be given again.',
    exception.ExtendVolumeNotSupported: 'Detach the volume, extend it, and attach it again.',
}

# What the journal has of an attachment after an operation on it failed.
_RECORD = {
    'none': 'nothing is recorded',
    'attached': 'recorded as attached, as before',
    'unfinished': 'recorded as unfinished; "volumedrivers recover" goes on',
    'unknown': 'what is recorded cannot be read',
}
# The same, of the row about Cinder's side.
_RECORD_IN_CINDER = {
    'none': 'nothing is recorded, and Cinder has the volume as before',
    'attached': 'recorded as attached, as before, and so it is in Cinder',
    'unfinished': 'recorded as unfinished; "volumedrivers recover" settles it, in Cinder too',
    'unknown': 'what is recorded cannot be read',
}
_IN_CINDER = 'volume '  # how the operations on Cinder's volumes begin


def exit_code(error: BaseException) -> int:
    """Return the exit code of the command line for an error."""
    if isinstance(error, exception.VolumeDriversError):
        return error.exit_code
    if isinstance(error, signals.Stopped):
        return 128 + error.number  # as a shell counts it
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    return UNEXPECTED


def explain(
    error: BaseException, mask: secrecy.Mask, *, debug: bool = False, width: int | None = None
) -> str:
    """Return what a person reads about an error and its causes, in lines.

    First what happened, then what caused it, what an operation has done and left
    all the same, and what to do.

    :param debug: add the traceback
    :param width: of the terminal; None: no line is broken
    """
    parts = [_what_happened(error)]
    parts += [('  caused by  ', _cause(cause)) for cause in _causes(error)]
    parts += [('  moreover   ', _one_line(note)) for note in getattr(error, '__notes__', ())]
    parts += _what_was_done(error)
    parts += [('  what to do ', advice) for advice in (_what_to_do(error),) if advice]
    lines = [_wrapped(*part, width) for part in parts]
    if debug:
        lines.append(''.join(traceback.format_exception(error)).rstrip())
    return mask.text('\n'.join(lines))


def explain_parser_errors(parser: argparse.ArgumentParser, stderr: typing.TextIO) -> None:
    """Let a parser refuse in one sentence, without printing its whole usage."""

    def refuse(message: str) -> typing.NoReturn:
        width = text.terminal_width(stderr)
        advice = f'"{parser.prog} --help" shows what it takes.'
        stderr.write(f'{_wrapped("Error: ", _one_line(message), width)}\n')
        stderr.write(f'{_wrapped("  what to do ", advice, width)}\n')
        raise SystemExit(exception.BadInput.exit_code)

    parser.error = refuse  # type: ignore[method-assign]


def _wrapped(head: str, body: str, width: int | None) -> str:
    lines = text.wrap(body, width, indent=len(head))
    return head + ('\n' + ' ' * len(head)).join(lines)


def _what_happened(error: BaseException) -> tuple[str, str]:
    if isinstance(error, exception.VolumeDriversError):
        return 'Error: ', _one_line(str(error))
    if isinstance(error, KeyboardInterrupt):
        return '', 'Interrupted.'
    return 'Error: ', f'unexpected {_cause(error)} {_place(error)}'.rstrip()


def _what_was_done(error: BaseException) -> list[tuple[str, str]]:
    """Return what is told of an operation that stopped at a step."""
    failure: Failure | None = getattr(error, 'failure', None)
    if failure is None:
        return []
    parts = [('  steps      ', _steps(failure))]
    known = failure  # an operation around another may know the volume only while it is there
    while known.within is not None and known.paths_asked is None:
        known = known.within
    volume = [known.identity] if known.identity else []
    if known.paths_asked is not None:
        volume.append(f'{known.paths_found} of {known.paths_asked} paths')
    volume += [f'{path.name}: {path.reason}' for path in known.paths_failed]
    if volume:
        parts.append(('  volume     ', _one_line(', '.join(volume))))
    recorded = _RECORD_IN_CINDER if failure.operation.startswith(_IN_CINDER) else _RECORD
    left = ', '.join(_leftovers(failure))
    parts.append(('  left       ', '; '.join(filter(None, (left, recorded[failure.record])))))
    return parts


def _steps(failure: 'Failure') -> str:
    """Return the steps with their seconds; in brackets those of the step that failed."""
    told = []
    for name, seconds in failure.seconds.items():
        if name != failure.step:
            told.append(f'{name} {seconds:g} s')
            continue
        inner = f' ({_steps(failure.within)})' if failure.within is not None else ''
        told.append(f'{name} failed after {seconds:g} s{inner}')
    not_done = f'; not done: {", ".join(failure.not_done)}' if failure.not_done else ''
    return ', '.join(told) + not_done


def _leftovers(failure: 'Failure') -> tuple[str, ...]:
    """Return what is left; of an inner operation first."""
    inner = () if failure.within is None else _leftovers(failure.within)
    return (*inner, *(one for one in failure.leftovers if one not in inner))


def _what_to_do(error: BaseException) -> str:
    if isinstance(error, exception.VolumeDriversError):
        return next(_ADVICE[cls] for cls in type(error).__mro__ if cls in _ADVICE)
    if isinstance(error, KeyboardInterrupt):
        return ''
    return (
        'This is a mistake of volumedrivers. Please report it with the output of the same '
        'command with --debug.'
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Return the chain behind an error, without causes that say nothing new."""
    chain: list[BaseException] = []
    said = str(error)
    cause = error.__cause__
    while cause is not None and cause not in chain:
        if str(cause) not in said:
            chain.append(cause)
            said = str(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return chain


def _cause(error: BaseException) -> str:
    if isinstance(error, exception.VolumeDriversError):
        return _one_line(str(error))
    said = _one_line(str(error))
    return f'{type(error).__name__}: {said}' if said else type(error).__name__


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f'({frames[-1].filename}:{frames[-1].lineno})' if frames else ''


def _one_line(words: str) -> str:
    return ' '.join(words.split())
