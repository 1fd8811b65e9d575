/* Serves a file as an iSCSI disk from an epoll loop of its own, in one thread: file_server FILE [PORT]
 *
 * The library does the protocol; sockets, clock and waiting are this program's. It ends with its standard input. */
#define _GNU_SOURCE /* accept4 */
#include <lunette.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* An initiator's connection. */
struct peer {
    int fd;
    lunette_connection *connection;
    uint32_t interest; /* what epoll is asked for */
    bool closing;      /* closed as soon as everything is sent */
};

static int poller, wake_fd;
static lunette_server *server;

static void check(lunette_result result, const char *what)
{
    if (result != LUNETTE_RESULT_OK) {
        fprintf(stderr, "file_server: %s: %s\n", what, lunette_last_error());
        exit(1);
    }
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Called by the library from any thread. */
static void wake(void *userdata)
{
    uint64_t one = 1;
    (void)!write(*(int *)userdata, &one, sizeof one);
}

static void ask_for(struct peer *peer, uint32_t interest)
{
    if (peer->interest != interest) {
        struct epoll_event event = { .events = interest, .data.ptr = peer };
        epoll_ctl(poller, EPOLL_CTL_MOD, peer->fd, &event);
        peer->interest = interest;
    }
}

/* Sends what there is and the socket takes. False: the connection is over. */
static bool transmit(struct peer *peer)
{
    for (;;) {
        lunette_slice slices[64];
        struct iovec vectors[64];
        size_t count = 0;
        check(lunette_connection_transmit(peer->connection, now_ns(), slices, 64, &count), "transmit");
        if (count == 0) {
            ask_for(peer, peer->interest & ~(uint32_t)EPOLLOUT);
            return !peer->closing;
        }
        for (size_t i = 0; i < count; i++)
            vectors[i] = (struct iovec){ (void *)slices[i].data, slices[i].length };
        ssize_t sent = writev(peer->fd, vectors, (int)count);
        if (sent < 0 && errno == EAGAIN) {
            ask_for(peer, peer->interest | EPOLLOUT);
            return true;
        }
        if (sent < 0)
            return false;
        check(lunette_connection_sent(peer->connection, (size_t)sent), "sent");
    }
}

static void drop(struct peer *peer)
{
    lunette_connection_free(peer->connection);
    close(peer->fd);
    free(peer);
}

/* Receives once. False: the connection is over. */
static bool receive(struct peer *peer)
{
    size_t wanted = 0, size;
    uint8_t *buffer;
    check(lunette_connection_wanted(peer->connection, &wanted), "wanted");
    if (wanted == 0) {
        ask_for(peer, peer->interest & ~(uint32_t)EPOLLIN);
        return true;
    }
    check(lunette_connection_buffer(peer->connection, &buffer, &size), "buffer");
    ssize_t got = recv(peer->fd, buffer, size, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    check(lunette_connection_filled(peer->connection, now_ns(), (size_t)got), "filled");
    return true;
}

/* Does what the library asks for. */
static void drain(void)
{
    for (;;) {
        lunette_event event = { .size = sizeof event };
        check(lunette_server_poll_event(server, &event), "event");
        struct peer *peer = event.userdata;
        bool alive = true;
        switch (event.kind) {
        case LUNETTE_EVENT_KIND_NONE:
            return;
        case LUNETTE_EVENT_KIND_RECEIVE:
            ask_for(peer, peer->interest | EPOLLIN);
            break;
        case LUNETTE_EVENT_KIND_CLOSE:
            peer->closing = true; /* and send the rest */
            /* fall through */
        case LUNETTE_EVENT_KIND_TRANSMIT:
            alive = transmit(peer);
            break;
        }
        if (!alive)
            drop(peer);
    }
}

static void text_of(const struct sockaddr_in *address, char text[32])
{
    snprintf(text, 32, "%s:%u", inet_ntoa(address->sin_addr), ntohs(address->sin_port));
}

static void accept_one(int listener)
{
    struct sockaddr_in from, here;
    socklen_t length = sizeof from;
    int one = 1, fd = accept4(listener, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    length = sizeof here;
    getsockname(fd, (struct sockaddr *)&here, &length);
    char local[32], remote[32];
    text_of(&here, local);
    text_of(&from, remote);
    struct peer *peer = calloc(1, sizeof *peer);
    peer->fd = fd;
    if (lunette_connection_new(server, now_ns(), local, remote, peer, &peer->connection) != LUNETTE_RESULT_OK) {
        fprintf(stderr, "file_server: %s: %s\n", remote, lunette_last_error());
        close(fd);
        free(peer);
        return;
    }
    peer->interest = EPOLLIN;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = peer };
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static int timeout_ms(void)
{
    uint64_t due = UINT64_MAX, now = now_ns();
    check(lunette_server_next_timeout(server, &due), "timeout");
    if (due == UINT64_MAX)
        return -1;
    if (due <= now)
        return 0;
    uint64_t ms = (due - now + 999999) / 1000000;
    return ms > 60000 ? 60000 : (int)ms;
}

static int listen_on(uint16_t port, char address[32])
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof here;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, 64) < 0) {
        perror("file_server: listen");
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&here, &length);
    text_of(&here, address);
    return fd;
}

static void watch(int fd, void *tag)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = tag };
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: file_server FILE [PORT]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    lunette_server_options options = {
        .size = sizeof options, .flags = LUNETTE_SERVER_EVENT_LOOP, .wake = wake, .userdata = &wake_fd
    };
    lunette_store *store;
    check(lunette_server_new(&options, &server), "server");
    check(lunette_store_new_file(argv[1], NULL, &store), argv[1]);
    check(lunette_server_add_disk(server, store, NULL, NULL, 0), "disk");
    check(lunette_store_free(store), "store");

    char address[32], target[224];
    int listener = listen_on(argc > 2 ? (uint16_t)atoi(argv[2]) : 0, address);
    check(lunette_server_target(server, target, sizeof target), "target");
    printf("iscsi://%s/%s/0\n", address, target);
    fflush(stdout);

    watch(listener, &listener);
    watch(wake_fd, &wake_fd);
    watch(STDIN_FILENO, &poller);
    for (;;) {
        struct epoll_event ready;
        int count = epoll_wait(poller, &ready, 1, timeout_ms());
        void *tag = count == 1 ? ready.data.ptr : NULL;
        if (tag == &poller) {
            break;
        } else if (tag == &listener) {
            accept_one(listener);
        } else if (tag == NULL || tag == &wake_fd) {
            uint64_t value;
            (void)!read(wake_fd, &value, sizeof value);
            check(lunette_server_process(server, now_ns()), "process");
        } else {
            struct peer *peer = tag;
            bool alive = !(ready.events & EPOLLIN) || receive(peer);
            if (alive && (ready.events & EPOLLOUT))
                alive = transmit(peer);
            if (alive && (ready.events & (EPOLLERR | EPOLLHUP)) && !(ready.events & EPOLLIN))
                alive = false;
            if (!alive)
                drop(peer);
        }
        drain();
    }
    close(listener);
    close(wake_fd);
    close(poller);
    return lunette_server_free(server);
}
