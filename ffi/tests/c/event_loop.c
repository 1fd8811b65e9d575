/* A server in an event loop: rounds of connect, login, I/O, logout; several sessions at once; jobs that are handed out.
 *
 * event_loop ROUNDS */
#include "loop.h"

#define SIZE (4 << 20)

static char url[320];

static void one_round(unsigned seed)
{
    lunette_client *client;
    uint8_t out[8192], in[8192];
    uint64_t offset = (uint64_t)(seed % 256) * 8192;
    memset(out, (int)(seed * 31 + 7), sizeof out);
    OK(lunette_client_connect(url, &client));
    OK(lunette_client_write(client, offset, out, sizeof out));
    OK(lunette_client_read(client, offset, in, sizeof in));
    CLAIM(memcmp(in, out, sizeof in) == 0);
    OK(lunette_client_free(client));
}

static void begin(struct loop *loop, uint32_t flags, lunette_store *store, pthread_t *thread)
{
    loop_begin(loop, flags);
    OK(lunette_server_add_disk(loop->server, store, NULL, NULL, 0));
    OK(lunette_store_free(store));
    loop_url(loop, url, sizeof url);
    CLAIM(pthread_create(thread, NULL, loop_run, loop) == 0);
}

static void end(struct loop *loop, pthread_t thread)
{
    /* All have logged out: their connections go as soon as the loop has seen it. */
    size_t count = 1;
    for (int i = 0; i < 5000 && count > 0; i++) {
        OK(lunette_server_connections(loop->server, &count));
        pause_ms(1);
    }
    CLAIM(count == 0);
    atomic_store(&loop->stop, true);
    loop_wake(loop);
    pthread_join(thread, NULL);
    loop_end(loop);
}

static void rounds_leave_nothing_behind(unsigned rounds)
{
    struct loop loop;
    pthread_t thread;
    lunette_store *store;
    OK(lunette_store_new_memory(SIZE, &store));
    begin(&loop, 0, store, &thread);
    for (unsigned i = 0; i < rounds; i++)
        one_round(i);
    end(&loop, thread);
}

static atomic_int arrived;

static void *session(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;
    lunette_client *client;
    uint8_t *out = malloc(65536), *in = malloc(65536);
    OK(lunette_client_connect(url, &client));
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < 8)
        pause_ms(1);
    for (unsigned i = 0; i < 20; i++) {
        memset(out, (int)(seed + i), 65536);
        OK(lunette_client_write(client, seed * 131072ull, out, 65536));
        OK(lunette_client_read(client, seed * 131072ull, in, 65536));
        CLAIM(memcmp(in, out, 65536) == 0);
    }
    OK(lunette_client_flush(client));
    OK(lunette_client_free(client));
    free(out);
    free(in);
    return NULL;
}

/* A store that waits, so that there are jobs. */
static int32_t slow_read(void *bytes, uint64_t offset, uint8_t *buffer, size_t length)
{
    pause_ms(1);
    memcpy(buffer, (uint8_t *)bytes + offset, length);
    return 0;
}

static int32_t slow_write(void *bytes, uint64_t offset, const uint8_t *data, size_t length)
{
    memcpy((uint8_t *)bytes + offset, data, length);
    return 0;
}

static void eight_sessions_share_a_thread(uint32_t flags, bool copies)
{
    struct loop loop;
    pthread_t thread, sessions[8];
    lunette_store *store;
    lunette_store_callbacks callbacks = { .size = sizeof callbacks, .capacity = SIZE, .read = slow_read,
                                          .write = slow_write, .destroy = free };
    OK(lunette_store_new_callbacks(&callbacks, calloc(1, SIZE), &store));
    begin(&loop, flags, store, &thread);
    loop.copies = copies;
    atomic_store(&arrived, 0);
    for (uintptr_t i = 0; i < 8; i++)
        CLAIM(pthread_create(&sessions[i], NULL, session, (void *)i) == 0);
    for (int i = 0; i < 8; i++)
        pthread_join(sessions[i], NULL);
    end(&loop, thread);
    CLAIM(loop.most >= 8);
}

static void a_server_in_a_loop_is_shut_down_politely(void)
{
    struct loop loop;
    pthread_t thread;
    lunette_store *store;
    lunette_client *client;
    OK(lunette_store_new_memory(SIZE, &store));
    begin(&loop, 0, store, &thread);
    strcat(url, "?reconnect=off");
    OK(lunette_client_connect(url, &client));
    OK(lunette_server_shut_down(loop.server, now_ns(), 300000000));
    loop_wake(&loop);
    end(&loop, thread);
    OK(lunette_client_free(client));
}

int main(int argc, char **argv)
{
    CLAIM(argc == 2);
    rounds_leave_nothing_behind((unsigned)atoi(argv[1]));
    eight_sessions_share_a_thread(0, false);
    eight_sessions_share_a_thread(LUNETTE_SERVER_HAND_OUT_JOBS, true);
    a_server_in_a_loop_is_shut_down_politely();
    puts("event_loop: ok");
    return 0;
}
