/* What the tests share. A claim that fails ends the program with the line and the library's words. */
#ifndef CHECK_H
#define CHECK_H

#include <lunette.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLAIM(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition,            \
                    lunette_last_error());                                                         \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#define EXPECT(code, call)                                                                         \
    do {                                                                                           \
        lunette_result got_ = (call);                                                              \
        if (got_ != LUNETTE_RESULT_##code) {                                                       \
            fprintf(stderr, "%s:%d: %s gave %s, not " #code " (%s)\n", __FILE__, __LINE__, #call,  \
                    lunette_result_name(got_), lunette_last_error());                              \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#define OK(call) EXPECT(OK, call)

static inline uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static inline void pause_ms(unsigned ms)
{
    struct timespec time = { ms / 1000, (long)(ms % 1000) * 1000000 };
    nanosleep(&time, NULL);
}

/* valgrind lets all threads stand while one waits in io_uring. */
static inline uint32_t flags_of_threads(void)
{
    return getenv("LUNETTE_TEST_EPOLL") != NULL ? LUNETTE_SERVER_EPOLL : 0;
}

/* A server with threads on a free port. */
static inline lunette_server *new_server(void)
{
    lunette_server_options options = { .size = sizeof options, .threads = 1, .flags = flags_of_threads() };
    lunette_server *server = NULL;
    OK(lunette_server_new(&options, &server));
    OK(lunette_server_listen(server, "127.0.0.1:0", NULL));
    return server;
}

static inline lunette_client *connect_to(lunette_server *server, uint16_t lun)
{
    char url[320];
    lunette_client *client = NULL;
    OK(lunette_server_url(server, lun, url, sizeof url));
    OK(lunette_client_connect(url, &client));
    return client;
}

#endif
