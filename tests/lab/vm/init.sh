#!/bin/bash
# PID 1 of the virtual machine: what a kernel needs to be a host, then the agent.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LANG=C.UTF-8 HOME=/root
exec </dev/console >/dev/console 2>&1

# As systemd has it: a guest has a view of the mounts of its own, and a share that
# is mounted later has to come up there too.
mount --make-rshared /
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
hostname lab
ulimit -n 65536

modprobe -a virtio_net virtio_rng e1000e configfs loop fuse qemu_fw_cfg
# The guest inside runs ten times as fast with KVM; QEMU emulates AMD's.
modprobe -q kvm_amd || modprobe -q kvm_intel
mount -t configfs configfs /sys/kernel/config
/lib/systemd/systemd-udevd --daemon
udevadm trigger --type=subsystems --action=add
udevadm trigger --type=devices --action=add \
    --subsystem-match=block --subsystem-match=net --subsystem-match=misc
# Network cards get their names from udev.
udevadm settle -t 60

ip link set lo up
for net in /sys/bus/virtio/devices/*/net/*; do
    ip link set "${net##*/}" up
    ip addr add 10.0.2.15/24 dev "${net##*/}"
done

# bash takes in the orphans of everybody, whatever it waits for.
token=/sys/firmware/qemu_fw_cfg/by_name/opt/volumedrivers/token/raw
while :; do
    (cd /opt/lab/agent && exec python3 -m tests.lab.vm.agent 7000 $token)
    echo "the agent ended with $?"
    sleep 0.2
done
