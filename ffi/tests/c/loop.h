/* An event loop by poll(2) around a server without threads, for tests. */
#ifndef LOOP_H
#define LOOP_H

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define MAX_PEERS 64

struct peer {
    int fd;
    lunette_connection *connection;
    bool blocked, stopped, closing;
};

struct loop {
    lunette_server *server;
    int listener, pipe[2];
    char address[32];
    atomic_bool stop;
    bool copies;    /* hands bytes over by lunette_connection_received */
    bool hands_out; /* jobs run on threads of their own */
    size_t most;    /* connections at a time */
    struct peer *peers[MAX_PEERS];
};

static inline void loop_wake(void *userdata)
{
    struct loop *loop = userdata;
    (void)!write(loop->pipe[1], "w", 1);
}

static inline void text_of(const struct sockaddr_in *address, char text[32])
{
    snprintf(text, 32, "%s:%u", inet_ntoa(address->sin_addr), ntohs(address->sin_port));
}

static inline void loop_begin(struct loop *loop, uint32_t flags)
{
    memset(loop, 0, sizeof *loop);
    CLAIM(pipe(loop->pipe) == 0);
    fcntl(loop->pipe[0], F_SETFL, O_NONBLOCK);
    fcntl(loop->pipe[1], F_SETFL, O_NONBLOCK);
    loop->hands_out = flags & LUNETTE_SERVER_HAND_OUT_JOBS;
    lunette_server_options options = { .size = sizeof options,
                                       .flags = LUNETTE_SERVER_EVENT_LOOP | flags,
                                       .target = "iqn.2026-11.com.example:loop",
                                       .wake = loop_wake,
                                       .userdata = loop };
    OK(lunette_server_new(&options, &loop->server));
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof here;
    loop->listener = socket(AF_INET, SOCK_STREAM, 0);
    CLAIM(bind(loop->listener, (struct sockaddr *)&here, sizeof here) == 0);
    CLAIM(listen(loop->listener, 64) == 0);
    getsockname(loop->listener, (struct sockaddr *)&here, &length);
    text_of(&here, loop->address);
}

static inline void loop_url(struct loop *loop, char *url, size_t size)
{
    char target[224];
    OK(lunette_server_target(loop->server, target, sizeof target));
    snprintf(url, size, "iscsi://%s/%s/0", loop->address, target);
}

static inline void loop_drop(struct loop *loop, struct peer *peer)
{
    OK(lunette_connection_free(peer->connection));
    EXPECT(INVALID_HANDLE, lunette_connection_free(peer->connection));
    close(peer->fd);
    for (int i = 0; i < MAX_PEERS; i++)
        if (loop->peers[i] == peer)
            loop->peers[i] = NULL;
    free(peer);
}

static inline bool loop_transmit(struct peer *peer)
{
    for (;;) {
        lunette_slice slices[16];
        struct iovec vectors[16];
        size_t count = 0;
        OK(lunette_connection_transmit(peer->connection, now_ns(), slices, 16, &count));
        peer->blocked = false;
        if (count == 0)
            return !peer->closing;
        for (size_t i = 0; i < count; i++)
            vectors[i] = (struct iovec){ (void *)slices[i].data, slices[i].length };
        ssize_t sent = writev(peer->fd, vectors, (int)count);
        if (sent < 0 && errno == EAGAIN) {
            peer->blocked = true;
            return true;
        }
        if (sent < 0)
            return false;
        OK(lunette_connection_sent(peer->connection, (size_t)sent));
    }
}

static inline bool loop_receive(struct loop *loop, struct peer *peer)
{
    size_t wanted = 0, size = 0;
    uint8_t own[20000], *buffer = own;
    OK(lunette_connection_wanted(peer->connection, &wanted));
    if (wanted == 0) {
        peer->stopped = true;
        return true;
    }
    if (loop->copies)
        size = sizeof own;
    else
        OK(lunette_connection_buffer(peer->connection, &buffer, &size));
    ssize_t got = recv(peer->fd, buffer, size, 0);
    if (got < 0)
        return errno == EAGAIN;
    if (got == 0)
        return false;
    if (loop->copies)
        OK(lunette_connection_received(peer->connection, now_ns(), buffer, (size_t)got));
    else
        OK(lunette_connection_filled(peer->connection, now_ns(), (size_t)got));
    return true;
}

static inline void *loop_job(void *job)
{
    OK(lunette_job_run(job));
    return NULL;
}

static inline void loop_drain(struct loop *loop)
{
    for (;;) {
        lunette_job *job = NULL;
        while (loop->hands_out) {
            pthread_t thread;
            OK(lunette_server_poll_job(loop->server, &job));
            if (job == NULL)
                break;
            CLAIM(pthread_create(&thread, NULL, loop_job, job) == 0);
            pthread_detach(thread);
        }
        lunette_event event = { .size = sizeof event };
        OK(lunette_server_poll_event(loop->server, &event));
        struct peer *peer = event.userdata;
        bool alive = true;
        if (event.kind == LUNETTE_EVENT_KIND_NONE)
            return;
        CLAIM(event.connection == peer->connection);
        if (event.kind == LUNETTE_EVENT_KIND_RECEIVE) {
            peer->stopped = false;
            continue;
        }
        peer->closing |= event.kind == LUNETTE_EVENT_KIND_CLOSE;
        alive = loop_transmit(peer);
        if (!alive)
            loop_drop(loop, peer);
    }
}

static inline void loop_accept(struct loop *loop)
{
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    int one = 1, fd = accept(loop->listener, (struct sockaddr *)&from, &length);
    char remote[32];
    CLAIM(fd >= 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    text_of(&from, remote);
    struct peer *peer = calloc(1, sizeof *peer);
    peer->fd = fd;
    OK(lunette_connection_new(loop->server, now_ns(), loop->address, remote, peer, &peer->connection));
    for (int i = 0; i < MAX_PEERS; i++)
        if (loop->peers[i] == NULL) {
            loop->peers[i] = peer;
            return;
        }
    CLAIM(!"room for a connection");
}

static inline void *loop_run(void *userdata)
{
    struct loop *loop = userdata;
    while (!atomic_load(&loop->stop)) {
        struct pollfd polls[MAX_PEERS + 2] = { { loop->listener, POLLIN, 0 }, { loop->pipe[0], POLLIN, 0 } };
        struct peer *peers[MAX_PEERS + 2] = { NULL };
        nfds_t count = 2;
        for (int i = 0; i < MAX_PEERS; i++)
            if (loop->peers[i] != NULL) {
                short events = (loop->peers[i]->stopped ? 0 : POLLIN) | (loop->peers[i]->blocked ? POLLOUT : 0);
                peers[count] = loop->peers[i];
                polls[count++] = (struct pollfd){ loop->peers[i]->fd, events, 0 };
            }
        if (count - 2 > loop->most)
            loop->most = count - 2;
        uint64_t due = 0, now = now_ns();
        OK(lunette_server_next_timeout(loop->server, &due));
        int timeout = due <= now ? 0 : due - now > 1000000000u ? 1000 : (int)((due - now) / 1000000u) + 1;
        CLAIM(poll(polls, count, timeout) >= 0);
        char rest[256];
        (void)!read(loop->pipe[0], rest, sizeof rest);
        OK(lunette_server_process(loop->server, now_ns()));
        if (polls[0].revents)
            loop_accept(loop);
        for (nfds_t i = 2; i < count; i++) {
            bool alive = true;
            if (polls[i].revents & (POLLIN | POLLHUP | POLLERR))
                alive = loop_receive(loop, peers[i]);
            if (alive && (polls[i].revents & POLLOUT))
                alive = loop_transmit(peers[i]);
            if (!alive)
                loop_drop(loop, peers[i]);
            /* A peer that is dropped here must not be met below. */
            peers[i] = NULL;
            if (!alive)
                break;
        }
        loop_drain(loop);
    }
    return NULL;
}

static inline void loop_end(struct loop *loop)
{
    for (int i = 0; i < MAX_PEERS; i++)
        if (loop->peers[i] != NULL)
            loop_drop(loop, loop->peers[i]);
    OK(lunette_server_free(loop->server));
    close(loop->listener);
    close(loop->pipe[0]);
    close(loop->pipe[1]);
}

#endif
