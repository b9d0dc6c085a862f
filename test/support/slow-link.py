"""A slow and lossy link, for want of `tc netem`: a TUN device that sends back what is sent to its peer.

A TCP packet from here to the peer returns, after a delay, with source and destination swapped: it then comes from the
peer to the same port here. So a connection to a port of the peer ends at whatever listens on that port of this machine,
and both its directions lead through the link. Swapping changes no checksum, for these are sums of the addresses.

To be run in a network namespace of its own, whose loopback it brings up.

Usage: slow-link.py LOSS_PERCENT DELAY_MS. Prints `ready ADDRESS`, the peer, and at its end what it has carried and lost.
It ends by SIGTERM, or when the process that started it has ended; its device and address are then gone.
"""

import fcntl
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFDSTADDR = 0x8914, 0x8916, 0x8918
IFF_UP, IFF_RUNNING = 0x1, 0x40

# RFC 2544: for tests of networks.
ADDRESS, PEER = socket.inet_aton("198.18.0.1"), socket.inet_aton("198.18.0.2")

# Each run loses the same ones, counted in the order in which they come.
SEED = 5


def open_device():
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", b"slow%d", IFF_TUN | IFF_NO_PI)
    name = fcntl.ioctl(device, TUNSETIFF, request)[:16]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for number, value in ((SIOCSIFADDR, ADDRESS), (SIOCSIFDSTADDR, PEER)):
            fcntl.ioctl(control, number, struct.pack("16sH2x4s16x", name, socket.AF_INET, value))
        for interface in (b"lo", name):
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", interface, IFF_UP | IFF_RUNNING))
    return device


def is_tcp(packet):
    return (
        len(packet) >= 40
        and packet[0] >> 4 == 4
        and packet[9] == socket.IPPROTO_TCP
        and packet[12:20] == ADDRESS + PEER
    )


def stop(*_):
    raise SystemExit


def main():
    loss, delay = float(sys.argv[1]) / 100, float(sys.argv[2]) / 1000
    parent = os.getppid()
    chance = random.Random(SEED)
    signal.signal(signal.SIGTERM, stop)

    device = open_device()
    print("ready", socket.inet_ntoa(PEER), flush=True)
    under_way = deque()
    carried = lost = 0
    try:
        while os.getppid() == parent:
            wait = under_way[0][0] - time.monotonic() if under_way else 1
            select.select([device], [], [], min(max(wait, 0), 1))
            now = time.monotonic()
            while True:
                try:
                    packet = os.read(device, 65536)
                except BlockingIOError:
                    break
                if not is_tcp(packet):
                    continue
                if chance.random() < loss:
                    lost += 1
                    continue
                carried += 1
                under_way.append((now + delay, packet[:12] + packet[16:20] + packet[12:16] + packet[20:]))
            while under_way and under_way[0][0] <= now:
                os.write(device, under_way.popleft()[1])
    finally:
        print("carried", carried, "lost", lost, flush=True)


main()
