"""TLS from clients and to upstreams."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from shadow.adapters.tls import client_context, server_context
from shadow.errors import Usage
from shadow.proxy.config import Endpoint, Timeouts
from tests.proxy.kit import BOUND_S, Connection, Upstream, echo, get, ok, post, running, wait_for


class Authority:
    """A certificate authority, with PEM files of what it has signed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.ca = str(directory / f"ca-{id(self)}.pem")
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, *names: str) -> tuple[str, str]:
        """Files of a certificate and its key."""
        issued = self._authority.issue_cert(*names)
        certificate, key = (str(self._directory / f"{names[0]}-{id(self)}.{end}") for end in ("crt", "key"))
        issued.private_key_pem.write_to_path(key)
        for position, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(certificate, append=position > 0)
        return certificate, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def listen_context(authority: Authority, client_ca: str | None = None) -> ssl.SSLContext:
    certificate, key = authority.issue("localhost", "127.0.0.1")
    return server_context("proxy.tls", certificate=certificate, key=key, client_ca=client_ca)


def connect_tls(port: int, context: ssl.SSLContext) -> Connection:
    plain = socket.create_connection(("127.0.0.1", port), timeout=BOUND_S)
    return Connection(context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False))


def trusting(ca: str, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    return client_context("proxy.upstream_tls", ca=ca, certificate=certificate, key=key)


class TlsUpstream(Upstream):
    """A raw upstream that speaks TLS."""

    def __init__(self, serve: Callable[[Connection], None], context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(serve)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._shake_hands, args=(peer,), daemon=True).start()

    def _shake_hands(self, peer: socket.socket) -> None:
        try:
            connection = Connection(self._context.wrap_socket(peer, server_side=True))
        except OSError:
            peer.close()
            return
        self.connections.append(connection)
        self._run(connection)


@contextmanager
def tls_upstream(
    authority: Authority, serve: Callable[[Connection], None], ca: str | None = None
) -> Iterator[Upstream]:
    with TlsUpstream(serve, listen_context(authority, ca)) as upstream:
        yield upstream


def test_requests_of_one_connection_are_served_and_copied(authority):
    """Head, body, keep-alive and the end work as without TLS, and the upstream is told that it was https."""
    with Upstream(echo) as upstream, running(upstream.port, listen_tls=listen_context(authority)) as proxy:
        with connect_tls(proxy.port, trusting(authority.ca)) as client:
            for number in range(3):
                client.send(post(b"%d" % number * 1000))
                assert b"%d" % number * 1000 == client.message()[2]
            client.send(post(b"last", "/v1/chat", "Connection: close"))
            assert client.rest().endswith(b"last")
        assert [b"0" * 1000, b"1" * 1000, b"2" * 1000, b"last"] == [copy.live.body for copy in proxy.copies(4)]
    assert 4 == upstream.received.count(b"X-Forwarded-Proto: https\r\n")


def test_an_answer_that_breaks_off_does_not_end_well_in_tls(authority):
    """HTTP/1.0 has only the connection's end to show that an answer is whole: no close_notify comes."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with (
        Upstream(serve) as upstream,
        running(upstream.port, listen_tls=listen_context(authority)) as proxy,
        connect_tls(proxy.port, trusting(authority.ca)) as client,
    ):
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(OSError):
            client.rest()


def test_clients_must_show_a_certificate_where_one_is_asked_for(authority):
    """Without one the handshake fails and nothing reaches the upstream; with one it is served."""
    context = listen_context(authority, authority.ca)
    with Upstream(echo) as upstream, running(upstream.port, listen_tls=context) as proxy:
        with pytest.raises((OSError, EOFError)), connect_tls(proxy.port, trusting(authority.ca)) as client:
            client.send(get())
            client.message()
        with connect_tls(proxy.port, trusting(authority.ca, *authority.issue("client.test"))) as client:
            client.send(post(b"known"))
            assert b"known" == client.message()[2]
    assert 1 == upstream.received.count(b"HTTP/1.1")


def test_plain_http_on_the_tls_port_and_silence_are_ended(authority):
    """Neither holds a connection for long."""
    context = listen_context(authority)
    with (
        Upstream(echo) as upstream,
        running(upstream.port, listen_tls=context) as proxy,
        Connection(socket.create_connection(("127.0.0.1", proxy.port))) as client,
    ):
        client.send(get())
        with suppress(ConnectionResetError):  # As good an end.
            assert b"HTTP" not in client.rest()
    assert b"" == upstream.received


def test_upstreams_in_tls_are_verified(authority, tmp_path):
    """The right authority and name serve; another authority, or another name, is 502, and nothing is sent."""
    stranger = Authority(tmp_path)
    with tls_upstream(authority, echo) as upstream:
        for context, endpoint, is_served in (
            (trusting(authority.ca), Endpoint("127.0.0.1", upstream.port), True),
            (trusting(authority.ca), Endpoint("localhost", upstream.port), True),
            (trusting(stranger.ca), Endpoint("127.0.0.1", upstream.port), False),
        ):
            with (
                running(0, upstreams=(endpoint,), upstream_tls=context) as proxy,
                Connection(socket.create_connection(("127.0.0.1", proxy.port), BOUND_S)) as client,
            ):
                for _ in range(2):
                    client.send(post(b"over tls"))
                    line, _, body = client.message()
                    assert is_served == (line == "HTTP/1.1 200 OK" and body == b"over tls")
    assert 4 == upstream.received.count(b"POST")


def test_the_proxy_shows_its_own_certificate(authority):
    """Where the upstream asks for one."""
    context = trusting(authority.ca, *authority.issue("proxy.test"))
    with tls_upstream(authority, echo, ca=authority.ca) as upstream:
        endpoint = (Endpoint("127.0.0.1", upstream.port),)
        with (
            running(0, upstreams=endpoint, upstream_tls=context) as proxy,
            Connection(socket.create_connection(("127.0.0.1", proxy.port), BOUND_S)) as client,
        ):
            client.send(post(b"mutual"))
            assert b"mutual" == client.message()[2]


def test_a_tls_answer_without_its_end_is_no_whole_answer(authority):
    """Close-delimited, and the connection is cut without close_notify: the client sees a broken stream."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        socket.socket.shutdown(connection.peer, socket.SHUT_RDWR)

    with tls_upstream(authority, serve) as upstream:
        endpoint = (Endpoint("127.0.0.1", upstream.port),)
        with (
            running(0, upstreams=endpoint, upstream_tls=trusting(authority.ca)) as proxy,
            Connection(socket.create_connection(("127.0.0.1", proxy.port), BOUND_S)) as client,
        ):
            client.send(get())
            with pytest.raises(ConnectionResetError):
                client.rest()


def test_a_handshake_that_does_not_end_is_a_time_out(authority):
    """An upstream that accepts and says nothing: 504."""

    def serve(connection: Connection) -> None:
        connection.rest()

    with Upstream(serve) as upstream:
        endpoint = (Endpoint("127.0.0.1", upstream.port),)
        timeouts = Timeouts(linger_s=0.2, connect_s=0.1)
        with (
            running(0, upstreams=endpoint, upstream_tls=trusting(authority.ca), timeouts=timeouts) as proxy,
            Connection(socket.create_connection(("127.0.0.1", proxy.port), BOUND_S)) as client,
        ):
            client.send(get())
            assert "HTTP/1.1 504 Gateway Timeout" == client.message()[0]


def test_files_that_cannot_be_used_are_named(authority, tmp_path):
    """A missing file, a file of something else, and a certificate without its key: one sentence each."""
    certificate, key = authority.issue("a.test")
    other = tmp_path / "other.pem"
    other.write_text("nothing")
    cases = [
        ("proxy.tls.certificate: /nowhere.pem cannot be read: No such file or directory", "/nowhere.pem", key, None),
        (f"proxy.tls: {other} and {key} are not a PEM certificate and its unencrypted key", str(other), key, None),
        (f"proxy.tls.client_ca: {other} holds no PEM certificates", certificate, key, str(other)),
    ]
    for sentence, cert, own_key, ca in cases:
        with pytest.raises(Usage) as error:
            server_context("proxy.tls", certificate=cert, key=own_key, client_ca=ca)
        assert sentence == str(error.value)


def test_a_drain_waits_for_a_tls_answer(authority):
    """And says in TLS that it was whole."""
    free = threading.Event()

    def serve(connection: Connection) -> None:
        connection.message()
        free.wait(BOUND_S)
        connection.send(ok(b"late"))

    with (
        Upstream(serve) as upstream,
        running(upstream.port, listen_tls=listen_context(authority)) as proxy,
        connect_tls(proxy.port, trusting(authority.ca)) as client,
    ):
        client.send(get())
        wait_for(lambda: b"GET" in upstream.received)
        threading.Timer(0.1, free.set).start()
        assert proxy.drain(5.0)
        assert client.rest().endswith(b"late")
