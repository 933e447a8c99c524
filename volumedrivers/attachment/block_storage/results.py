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

"""What an operation on Cinder's volumes did, as data: JSON-able, and nothing in it is secret."""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers.attachment.results import AttachResult
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.attachment.results import RefreshResult
from volumedrivers.attachment.results import Result
from volumedrivers.attachment.results import SwapResult

_Inner = AttachResult | DetachResult | RefreshResult | SwapResult
_Extended = typing.TypeVar('_Extended', bound=_Inner)


def _with(
    kind: type[_Extended],
    inner: _Inner,
    more: dict[str, typing.Any],
) -> _Extended:
    known = {field.name: getattr(inner, field.name) for field in dataclasses.fields(inner)}
    return kind(**{**known, **more})


def with_inner(
    seconds: Mapping[str, float], step: str, inner: Mapping[str, float]
) -> dict[str, float]:
    """Return the seconds of each step, with those of guest and host in the place of theirs.

    :param step: the one in which guest and host have done their part
    :param inner: of its own steps; its last one writes the journal as well
    """
    told: dict[str, float] = {}
    for name, took in seconds.items():
        told.update(inner if name == step else {name: took})
    del told['record']
    return told | {'record': round(seconds['record'] + inner.get('record', 0.0), 3)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeAttachResult(AttachResult):
    """A volume of Cinder is in the guest, and Cinder knows.

    :ivar mode: rw, or ro
    """

    volume_name: str
    attachment_id: str | None
    mode: str

    @classmethod
    def of(cls, inner: AttachResult, **more: typing.Any) -> 'VolumeAttachResult':
        """Return what guest and host did, and what Cinder did."""
        return _with(cls, inner, more)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeDetachResult(DetachResult):
    """A volume is out of the guest and off this host, and Cinder has it back.

    :ivar settled: what was done in Cinder, where guest and host had let go
        before; None: they let go now
    """

    volume_name: str
    attachment_id: str | None
    settled: str | None = None

    @classmethod
    def of(cls, inner: DetachResult, **more: typing.Any) -> 'VolumeDetachResult':
        """Return what guest and host did, and what Cinder did."""
        return _with(cls, inner, more)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeRefreshResult(RefreshResult):
    """A volume is reached as Cinder says now; the attachment is the same.

    :ivar mode: rw, or ro
    """

    volume_name: str
    attachment_id: str | None
    mode: str

    @classmethod
    def of(cls, inner: RefreshResult, **more: typing.Any) -> 'VolumeRefreshResult':
        """Return what guest and host did, and what Cinder did."""
        return _with(cls, inner, more)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeExtendResult(Result):
    """Cinder has extended a volume, and the guests of this host that have it see that.

    :ivar size_before, size: bytes that Cinder has; whole GiB
    :ivar guests: of each guest of this host
    :ivar without: guests of which something is recorded, and which do not
          have the volume (any more)
    :ivar elsewhere: what other hosts have of it: attachment, host and guest;
          Cinder tells them
    :ivar completed: whether Cinder waited to be told how it ended
    """

    volume_id: str
    volume_name: str
    size_before: int
    size: int
    guests: tuple[ExtendResult, ...]
    without: tuple[str, ...]
    elsewhere: tuple[str, ...]
    completed: bool
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeSwapResult(SwapResult):
    """A guest has gone over to another back end's volume, which has the volume's id now.

    :ivar attachment_id: that of the volume now
    """

    volume_name: str
    attachment_id: str | None

    @classmethod
    def of(cls, inner: SwapResult, **more: typing.Any) -> 'VolumeSwapResult':
        """Return what guest and host did, and what Cinder did."""
        return _with(cls, inner, more)
