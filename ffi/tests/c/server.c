/* A server with threads: disks, views, groups, CHAP; and the client against it. */
#include "check.h"

#define SIZE (8 << 20)

static void read_and_write(lunette_client *client)
{
    uint8_t *out = malloc(3 << 20), *in = malloc(3 << 20);
    for (size_t i = 0; i < 3 << 20; i++)
        out[i] = (uint8_t)(i * 7 + (i >> 9));
    OK(lunette_client_write(client, 4096, out, 3 << 20));
    OK(lunette_client_flush(client));
    OK(lunette_client_read(client, 4096, in, 3 << 20));
    CLAIM(memcmp(in, out, 3 << 20) == 0);
    OK(lunette_client_unmap(client, 8192, 4096));
    OK(lunette_client_read(client, 8192, in, 4096));
    for (size_t i = 0; i < 4096; i++)
        CLAIM(in[i] == 0);
    EXPECT(INVALID_PARAMETER, lunette_client_read(client, 1, in, 512));
    EXPECT(INVALID_PARAMETER, lunette_client_read(client, SIZE, in, 512));
    free(out);
    free(in);
}

static void a_disk_is_served(void)
{
    lunette_server *server = new_server();
    lunette_store *store;
    char guid[LUNETTE_GUID_SIZE], small[8];
    OK(lunette_store_new_memory(SIZE, &store));
    EXPECT(BUFFER_TOO_SMALL, lunette_server_add_disk(server, store, NULL, small, sizeof small));
    lunette_disk_options options = { .size = sizeof options, .lun = 3, .block_bytes = 4096, .vendor = "ACME" };
    OK(lunette_server_add_disk(server, store, &options, guid, sizeof guid));
    CLAIM(strlen(guid) == 32 && guid[0] == '6');
    EXPECT(EXISTS, lunette_server_add_disk(server, store, &options, NULL, 0));
    options.lun = 16384;
    EXPECT(INVALID_PARAMETER, lunette_server_add_disk(server, store, &options, NULL, 0));
    OK(lunette_store_free(store));

    lunette_client *client = connect_to(server, 3);
    uint64_t bytes;
    uint32_t block;
    size_t sessions;
    OK(lunette_client_capacity(client, &bytes, &block));
    CLAIM(bytes == SIZE && block == 4096);
    OK(lunette_server_sessions(server, &sessions));
    CLAIM(sessions == 1);
    read_and_write(client);

    uint8_t inquiry[36], cdb[6] = { 0x12, 0, 0, 0, sizeof inquiry, 0 };
    lunette_command command = {
        .size = sizeof command, .cdb = cdb, .cdb_length = 6, .data_in = inquiry, .data_in_length = sizeof inquiry
    };
    OK(lunette_client_execute(client, &command));
    CLAIM(command.status == 0 && command.data_in_received == 36 && memcmp(inquiry + 8, "ACME    ", 8) == 0);
    uint8_t nonsense[6] = { 0xff };
    command.cdb = nonsense;
    OK(lunette_client_execute(client, &command));
    CLAIM(command.status == 2 && command.sense_length >= 14 && (command.sense[2] & 0xf) == 5);
    command.cdb_length = 5;
    EXPECT(INVALID_PARAMETER, lunette_client_execute(client, &command));

    OK(lunette_server_remove_disk(server, guid));
    EXPECT(NOT_FOUND, lunette_server_remove_disk(server, guid));
    uint8_t sector[4096];
    EXPECT(CHECK_CONDITION, lunette_client_read(client, 0, sector, 4096));
    OK(lunette_client_free(client));
    OK(lunette_server_stop(server, 1000));
    EXPECT(CLOSED, lunette_server_sessions(server, &sessions));
    OK(lunette_server_stop(server, 1000));
    OK(lunette_server_free(server));
}

#define HOST "iqn.2026-11.com.example:host"
#define TARGET "iqn.2026-11.com.example:second"

static void url_of(lunette_server *server, const char *credentials, const char *target, const char *rest, char url[512])
{
    char first[320], own[224];
    OK(lunette_server_url(server, 0, first, sizeof first));
    OK(lunette_server_target(server, own, sizeof own));
    char *host = first + strlen("iscsi://"), *end = strchr(host, '/');
    snprintf(url, 512, "iscsi://%s%.*s/%s/%s", credentials, (int)(end - host), host, target ? target : own, rest);
}

static void views_decide_who_sees_a_disk(void)
{
    lunette_server *server = new_server();
    lunette_store *store;
    lunette_client *client;
    char guid[LUNETTE_GUID_SIZE], url[512];
    OK(lunette_store_new_memory(SIZE, &store));
    lunette_disk_options options = { .size = sizeof options, .lun = LUNETTE_LUN_ANY, .flags = LUNETTE_DISK_HIDDEN };
    OK(lunette_server_add_disk(server, store, &options, guid, sizeof guid));
    OK(lunette_server_add_target(server, TARGET));
    EXPECT(EXISTS, lunette_server_add_target(server, TARGET));
    EXPECT(INVALID_PARAMETER, lunette_server_add_target(server, "Nonsense"));
    OK(lunette_server_add_host_group(server, "hosts"));
    OK(lunette_server_add_host_group_member(server, "hosts", HOST));
    EXPECT(NOT_FOUND, lunette_server_add_host_group_member(server, "others", HOST));
    OK(lunette_server_add_target_group(server, "targets"));
    OK(lunette_server_add_target_group_member(server, "targets", TARGET));
    EXPECT(NOT_FOUND, lunette_server_add_view(server, guid, "nobody", NULL, 5));
    OK(lunette_server_add_view(server, guid, "hosts", "targets", 5));

    url_of(server, "", TARGET, "5?initiator=" HOST, url);
    OK(lunette_client_connect(url, &client));
    OK(lunette_client_free(client));
    url_of(server, "", TARGET, "5", url);
    CLAIM(lunette_client_connect(url, &client) != LUNETTE_RESULT_OK);
    url_of(server, "", NULL, "5?initiator=" HOST, url);
    CLAIM(lunette_client_connect(url, &client) != LUNETTE_RESULT_OK);

    OK(lunette_server_remove_views(server, guid));
    url_of(server, "", TARGET, "5?initiator=" HOST, url);
    CLAIM(lunette_client_connect(url, &client) != LUNETTE_RESULT_OK);
    OK(lunette_server_remove_target(server, TARGET));
    EXPECT(NOT_FOUND, lunette_server_remove_target(server, TARGET));
    EXPECT(LOGIN_FAILED, lunette_client_connect(url, &client));
    OK(lunette_store_free(store));
    OK(lunette_server_free(server));
}

static void chap_keeps_strangers_out(void)
{
    lunette_server *server = new_server();
    lunette_store *store;
    lunette_client *client;
    char url[512];
    OK(lunette_store_new_memory(SIZE, &store));
    OK(lunette_server_add_disk(server, store, NULL, NULL, 0));
    OK(lunette_store_free(store));
    OK(lunette_server_demand_chap(server, true));
    const char *secret = "a secret of host", *other = "and the target's";
    EXPECT(INVALID_PARAMETER, lunette_server_add_initiator(server, HOST, "me", (const uint8_t *)secret, 5));
    OK(lunette_server_add_initiator(server, HOST, "me", (const uint8_t *)secret, strlen(secret)));
    char target[224];
    OK(lunette_server_target(server, target, sizeof target));
    OK(lunette_server_set_target_secret(server, target, "it", (const uint8_t *)other, strlen(other)));

    url_of(server, "", NULL, "0?initiator=" HOST, url);
    EXPECT(LOGIN_FAILED, lunette_client_connect(url, &client));
    url_of(server, "me%a wrong secret!@", NULL, "0?initiator=" HOST, url);
    EXPECT(LOGIN_FAILED, lunette_client_connect(url, &client));
    url_of(server, "me%a secret of host@", NULL, "0?initiator=" HOST, url);
    OK(lunette_client_connect(url, &client));
    OK(lunette_client_free(client));
    url_of(server, "me%a secret of host@", NULL,
           "0?initiator=" HOST "&target_user=it&target_password=and the target's&header_digest=crc32c&data_digest=crc32c",
           url);
    OK(lunette_client_connect(url, &client));
    read_and_write(client);
    OK(lunette_client_free(client));
    OK(lunette_server_free(server));
}

static void count_targets(void *userdata, const char *target, const char *address)
{
    CLAIM(strncmp(target, "iqn.", 4) == 0 && strncmp(address, "127.0.0.1:", 10) == 0);
    ++*(int *)userdata;
}

static void discovery_finds_every_target(void)
{
    lunette_server *server = new_server();
    uint16_t port = 0;
    int found = 0;
    char url[64];
    OK(lunette_server_add_target(server, TARGET));
    OK(lunette_server_listen(server, "127.0.0.1:0", &port));
    CLAIM(port != 0);
    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", port);
    EXPECT(SYSTEM, lunette_server_listen(server, taken, NULL));
    CLAIM(strstr(lunette_last_error(), taken) != NULL);
    snprintf(url, sizeof url, "iscsi://%s", taken);
    OK(lunette_discover(url, count_targets, &found));
    CLAIM(found >= 2);
    OK(lunette_server_free(server));
}

static void files_are_served(const char *directory)
{
    char path[512];
    lunette_store *store, *again;
    snprintf(path, sizeof path, "%s/disk.img", directory);
    EXPECT(SYSTEM, lunette_store_new_file(path, NULL, &store));
    CLAIM(strstr(lunette_last_error(), "disk.img") != NULL);
    lunette_file_options options = { .size = sizeof options, .flags = LUNETTE_STORE_CREATE, .file_bytes = SIZE };
    OK(lunette_store_new_file(path, &options, &store));
    EXPECT(SYSTEM, lunette_store_new_file(path, NULL, &again));
    lunette_server *server = new_server();
    OK(lunette_server_add_disk(server, store, NULL, NULL, 0));
    OK(lunette_store_free(store));
    lunette_client *client = connect_to(server, 0);
    read_and_write(client);
    OK(lunette_client_free(client));
    OK(lunette_server_free(server));

    options = (lunette_file_options){ .size = sizeof options, .flags = LUNETTE_STORE_READ_ONLY };
    OK(lunette_store_new_file(path, &options, &store));
    server = new_server();
    OK(lunette_server_add_disk(server, store, NULL, NULL, 0));
    client = connect_to(server, 0);
    uint8_t sector[512] = { 1 };
    EXPECT(CHECK_CONDITION, lunette_client_write(client, 0, sector, 512));
    OK(lunette_client_free(client));
    OK(lunette_server_free(server));
    OK(lunette_store_free(store));
}

int main(int argc, char **argv)
{
    CLAIM(argc == 2);
    a_disk_is_served();
    views_decide_who_sees_a_disk();
    chap_keeps_strangers_out();
    discovery_finds_every_target();
    files_are_served(argv[1]);
    puts("server: ok");
    return 0;
}
