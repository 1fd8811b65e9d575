/* Everything that can be done wrong without crossing memory: each has its code, none does harm. */
#include "check.h"

static int32_t no_read(void *userdata, uint64_t offset, uint8_t *buffer, size_t length)
{
    (void)userdata, (void)offset, (void)buffer, (void)length;
    return 5;
}

static void nulls_have_a_code(void)
{
    lunette_store *store;
    lunette_server *server;
    lunette_client *client;
    EXPECT(NULL_PARAMETER, lunette_store_new_memory(1 << 20, NULL));
    EXPECT(NULL_PARAMETER, lunette_store_new_file(NULL, NULL, &store));
    EXPECT(NULL_PARAMETER, lunette_store_new_file("x", NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_store_new_callbacks(NULL, NULL, &store));
    EXPECT(NULL_PARAMETER, lunette_store_new_async(NULL, NULL, &store));
    EXPECT(NULL_PARAMETER, lunette_completion_finish(NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_new(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_listen(NULL, "127.0.0.1:0", NULL));
    EXPECT(NULL_PARAMETER, lunette_server_target(NULL, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_url(NULL, 0, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_sessions(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_stop(NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_add_disk(NULL, NULL, NULL, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_remove_disk(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_add_view(NULL, NULL, NULL, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_remove_views(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_add_host_group(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_add_host_group_member(NULL, NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_add_target_group(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_add_target_group_member(NULL, NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_add_target(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_remove_target(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_demand_chap(NULL, true));
    EXPECT(NULL_PARAMETER, lunette_server_add_initiator(NULL, NULL, NULL, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_set_target_secret(NULL, NULL, NULL, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_poll_event(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_next_timeout(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_process(NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_server_shut_down(NULL, 0, 0));
    EXPECT(NULL_PARAMETER, lunette_server_connections(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_server_poll_job(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_job_run(NULL));
    EXPECT(NULL_PARAMETER, lunette_connection_new(NULL, 0, NULL, NULL, NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_connection_wanted(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_connection_received(NULL, 0, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_connection_buffer(NULL, NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_connection_filled(NULL, 0, 0));
    EXPECT(NULL_PARAMETER, lunette_connection_transmit(NULL, 0, NULL, 0, NULL));
    EXPECT(NULL_PARAMETER, lunette_connection_sent(NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_client_connect(NULL, &client));
    EXPECT(NULL_PARAMETER, lunette_client_connect("iscsi://127.0.0.1/x/0", NULL));
    EXPECT(NULL_PARAMETER, lunette_client_capacity(NULL, NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_client_read(NULL, 0, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_client_write(NULL, 0, NULL, 0));
    EXPECT(NULL_PARAMETER, lunette_client_flush(NULL));
    EXPECT(NULL_PARAMETER, lunette_client_unmap(NULL, 0, 0));
    EXPECT(NULL_PARAMETER, lunette_client_execute(NULL, NULL));
    EXPECT(NULL_PARAMETER, lunette_discover(NULL, NULL, NULL));
    /* What may be NULL does nothing. */
    OK(lunette_store_free(NULL));
    OK(lunette_server_free(NULL));
    OK(lunette_completion_free(NULL));
    OK(lunette_job_free(NULL));
    OK(lunette_connection_free(NULL));
    OK(lunette_client_free(NULL));
    (void)server;
}

static void handles_are_good_once_and_for_one_kind(void)
{
    lunette_store *store;
    lunette_server *server = new_server();
    OK(lunette_store_new_memory(1 << 20, &store));
    EXPECT(INVALID_HANDLE, lunette_server_free((lunette_server *)store));
    EXPECT(INVALID_HANDLE, lunette_store_free((lunette_store *)server));
    EXPECT(INVALID_HANDLE, lunette_client_flush((lunette_client *)server));
    EXPECT(INVALID_HANDLE, lunette_server_demand_chap((lunette_server *)&store, true));
    OK(lunette_store_free(store));
    EXPECT(INVALID_HANDLE, lunette_store_free(store));
    EXPECT(INVALID_HANDLE, lunette_server_add_disk(server, store, NULL, NULL, 0));
    OK(lunette_server_free(server));
    EXPECT(INVALID_HANDLE, lunette_server_free(server));
    EXPECT(INVALID_HANDLE, lunette_server_stop(server, 0));
}

static void structures_tell_their_size(void)
{
    struct {
        lunette_server_options known;
        uint64_t later;
    } newer = { .known = { .size = sizeof newer, .threads = 1, .flags = flags_of_threads() } };
    lunette_server *server;
    lunette_store *store;
    OK(lunette_server_new(&newer.known, &server));
    OK(lunette_server_free(server));
    newer.later = 1;
    EXPECT(UNSUPPORTED, lunette_server_new(&newer.known, &server));
    lunette_server_options options = { .size = 0 };
    EXPECT(INVALID_PARAMETER, lunette_server_new(&options, &server));
    options.size = sizeof options;
    options.flags = 0x80;
    EXPECT(UNSUPPORTED, lunette_server_new(&options, &server));
    lunette_store_callbacks callbacks = { .size = sizeof callbacks, .capacity = 1 << 20 };
    EXPECT(NULL_PARAMETER, lunette_store_new_callbacks(&callbacks, NULL, &store));
    callbacks.read = no_read;
    callbacks.unmap_granularity = 3;
    EXPECT(INVALID_PARAMETER, lunette_store_new_callbacks(&callbacks, NULL, &store));
    callbacks.unmap_granularity = 0;
    callbacks.capacity = 1000;
    OK(lunette_store_new_callbacks(&callbacks, NULL, &store));
    server = new_server();
    EXPECT(INVALID_PARAMETER, lunette_server_add_disk(server, store, NULL, NULL, 0));
    OK(lunette_server_free(server));
    OK(lunette_store_free(store));
}

static void what_belongs_to_the_other_mode_is_refused(void)
{
    lunette_server_options options = { .size = sizeof options, .flags = LUNETTE_SERVER_EVENT_LOOP };
    lunette_server *loop, *threads = new_server();
    lunette_connection *connection, *second;
    OK(lunette_server_new(&options, &loop));
    EXPECT(UNSUPPORTED, lunette_server_listen(loop, "127.0.0.1:0", NULL));
    EXPECT(UNSUPPORTED, lunette_server_process(threads, 0));
    EXPECT(UNSUPPORTED, lunette_connection_new(threads, 0, "127.0.0.1:1", "127.0.0.1:2", NULL, &connection));
    EXPECT(INVALID_PARAMETER, lunette_connection_new(loop, 0, "nowhere", "127.0.0.1:2", NULL, &connection));
    EXPECT(INVALID_PARAMETER, lunette_connection_new(loop, UINT64_MAX, "127.0.0.1:1", "x", NULL, &connection));
    OK(lunette_connection_new(loop, 5, "127.0.0.1:1", "127.0.0.1:2", NULL, &connection));
    OK(lunette_connection_new(loop, 3, "127.0.0.1:1", "127.0.0.1:3", NULL, &second));
    EXPECT(INVALID_PARAMETER, lunette_connection_sent(connection, 1));
    EXPECT(INVALID_PARAMETER, lunette_connection_filled(connection, 6, 1u << 30));
    EXPECT(NULL_PARAMETER, lunette_connection_received(connection, 6, NULL, 1));
    OK(lunette_connection_received(connection, 6, NULL, 0));
    /* Bytes that are no iSCSI end the connection, and only that. */
    uint8_t garbage[4096];
    memset(garbage, 0xee, sizeof garbage);
    OK(lunette_connection_received(connection, 7, garbage, sizeof garbage));
    bool closed = false;
    for (;;) {
        lunette_event event = { .size = sizeof event };
        OK(lunette_server_poll_event(loop, &event));
        if (event.kind == LUNETTE_EVENT_KIND_NONE)
            break;
        CLAIM(event.connection == connection);
        closed |= event.kind == LUNETTE_EVENT_KIND_CLOSE;
    }
    CLAIM(closed);
    OK(lunette_connection_free(connection));
    EXPECT(INVALID_HANDLE, lunette_connection_sent(connection, 0));
    size_t count;
    OK(lunette_server_connections(loop, &count));
    CLAIM(count == 1);
    /* A login that never comes is given up in time. */
    uint64_t due;
    OK(lunette_server_next_timeout(loop, &due));
    CLAIM(due != UINT64_MAX);
    OK(lunette_server_process(loop, due));
    lunette_event event = { .size = sizeof event };
    OK(lunette_server_poll_event(loop, &event));
    CLAIM(event.kind == LUNETTE_EVENT_KIND_CLOSE && event.connection == second);
    /* A connection may be given back after its server. */
    OK(lunette_server_free(loop));
    size_t wanted;
    EXPECT(CLOSED, lunette_connection_wanted(second, &wanted));
    OK(lunette_connection_free(second));
    EXPECT(INVALID_HANDLE, lunette_connection_free(second));
    OK(lunette_server_free(threads));
}

static void messages_belong_to_their_thread(void)
{
    lunette_store *store;
    EXPECT(NULL_PARAMETER, lunette_store_new_memory(1, NULL));
    CLAIM(strcmp(lunette_last_error(), "store is NULL") == 0);
    OK(lunette_store_new_memory(1 << 20, &store));
    CLAIM(strcmp(lunette_last_error(), "store is NULL") == 0);
    OK(lunette_store_free(store));
    CLAIM(strcmp(lunette_result_name(LUNETTE_RESULT_INVALID_HANDLE), "INVALID_HANDLE") == 0);
    CLAIM(strcmp(lunette_result_name(99999), "UNKNOWN") == 0);
    char version[16];
    snprintf(version, sizeof version, "%d.%d.", LUNETTE_VERSION_MAJOR, LUNETTE_VERSION_MINOR);
    CLAIM(strncmp(lunette_version(), version, strlen(version)) == 0);
}

static atomic_int freed, refused;

static void *free_it(void *server)
{
    atomic_fetch_add(lunette_server_free(server) == LUNETTE_RESULT_OK ? &freed : &refused, 1);
    return NULL;
}

static void of_two_threads_one_frees(void)
{
    for (int round = 0; round < 10; round++) {
        lunette_server *server = new_server();
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            CLAIM(pthread_create(&threads[i], NULL, free_it, server) == 0);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
    }
    CLAIM(freed == 10 && refused == 30);
}

int main(void)
{
    nulls_have_a_code();
    handles_are_good_once_and_for_one_kind();
    structures_tell_their_size();
    what_belongs_to_the_other_mode_is_refused();
    messages_belong_to_their_thread();
    of_two_threads_one_frees();
    puts("bad_use: ok");
    return 0;
}
