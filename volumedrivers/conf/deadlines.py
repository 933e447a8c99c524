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

"""How long the steps of an operation may take, and how long it waits to begin."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose


def _seconds(name: str, default: float, text: str, *, least: float = 0.1) -> cfg.Opt:
    return cfg.FloatOpt(name, default=default, min=least, help=prose(text))


OPTIONS: tuple[cfg.Opt, ...] = (
    _seconds(
        'lock_timeout',
        300.0,
        """
Seconds that an operation waits for another one on the same volume, or on the
same target, share or pool.  They go one after the other, first come first
served.  When the time is up the operation fails with the name of the one it
waited for, and nothing was done.  With 0 it does not wait at all.  A time
below what a slow connect takes makes operations fail that only had to wait.
""",
        least=0.0,
    ),
    _seconds(
        'libvirt_timeout',
        45.0,
        """
Seconds that libvirt itself may take for an answer, or to accept a connection
(30 s at most).  A daemon that hangs is given up after that: the operation
fails and says what was asked, and guests go on.  A shorter time makes a daemon
that is only slow count as unreachable.  What QEMU has to do has other
deadlines.
""",
        least=1.0,
    ),
    _seconds(
        'connect_timeout',
        300.0,
        """
Seconds for bringing a volume to this host: os-brick's connect, or mounting its
share.  iscsiadm alone gives a login 120 s, and a mount has ``mount_timeout``
for each of its steps.  When the time is up the operation fails, and what is
still connecting keeps its target locked until it has ended: os-brick cannot be
called off.  ``recover`` takes away what came of it.
""",
    ),
    _seconds(
        'disconnect_timeout',
        960.0,
        """
Seconds for taking a volume off this host, flushing included.  os-brick flushes
a multipath map in three attempts of 300 s and then waits 30 s for the devices;
a shorter time gives up before it does.  No data is lost by that: the flush
goes on and keeps its target locked, the attachment stays in the journal as
being detached, and ``recover`` or another detach finishes it.
""",
    ),
    _seconds(
        'identify_timeout',
        30.0,
        """
Seconds for reading what a volume is: WWN, NGUID, RBD image or file.  It is a
look into sysfs or at a file, or a question to a Ceph cluster.  When the time
is up the volume counts as unknown, which is not the same as wrong: it is not
given to a guest, and nothing of it is removed.
""",
    ),
    _seconds(
        'encrypt_timeout',
        120.0,
        """
Seconds for opening or closing an encrypted volume: asking the key manager,
reading the header, and deriving the key, which takes LUKS2 some seconds and
memory by design.  A key manager that does not answer makes the attach fail
after this time; the volume is disconnected again.
""",
    ),
    _seconds(
        'prove_timeout',
        30.0,
        """
Seconds for looking whether anything of a volume is left after it was taken off
this host: devices, maps, mounts, sessions, secrets.  When the time is up the
detach is not counted as finished, because nobody knows; the attachment stays
in the journal, and ``recover`` looks again.
""",
    ),
    _seconds(
        'extend_timeout',
        300.0,
        """
Seconds until this host has to see a volume's new size.  Every path is scanned
again and the multipath map resized, which takes as long as the slowest path.
When the time is up the guest keeps the old size and goes on undisturbed; the
operation can be called again.
""",
    ),
    _seconds(
        'copy_timeout',
        120.0,
        """
Seconds that copying a running guest's disk to another storage may make no step
forward.  How long all of it takes does not matter: that is the size of the
volume.  When the time is up the copy is ended, the guest goes on with what it
had, and Cinder is told that its migration has failed.
""",
        least=1.0,
    ),
    _seconds(
        'guest_attach_timeout',
        120.0,
        """
Seconds for libvirt and QEMU to take a disk or a new size.  QEMU opens network
volumes itself and stands still meanwhile, and libvirt does one thing at a time
for a guest: behind a migration or a backup a disk has to wait, after 30 s of
which libvirt gives up by itself.  When the time is up the attachment stays in
the journal, and ``recover`` finishes or undoes it by what the guest has then.
How long a guest may take to release a disk is ``device_detach_timeout``.
""",
    ),
)
