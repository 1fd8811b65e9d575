/* Stores of the calling program: they err, sleep, forget, and are gone; nobody else suffers. */
#include "check.h"

#include <errno.h>

#define SIZE (2 << 20)

struct disk {
    uint8_t bytes[SIZE];
    atomic_int error, sleeping, destroyed, calls, forget;
    lunette_server *server; /* to misuse in a callback */
};

static int32_t answer(struct disk *disk)
{
    atomic_fetch_add(&disk->calls, 1);
    CLAIM(atomic_load(&disk->destroyed) == 0);
    if (disk->server != NULL) {
        EXPECT(BUSY, lunette_server_free(disk->server));
        EXPECT(BUSY, lunette_server_stop(disk->server, 0));
        EXPECT(BUSY, lunette_server_remove_disk(disk->server, "6"));
    }
    while (atomic_load(&disk->sleeping))
        pause_ms(1);
    return atomic_load(&disk->error);
}

static int32_t disk_read(void *userdata, uint64_t offset, uint8_t *buffer, size_t length)
{
    struct disk *disk = userdata;
    CLAIM(offset + length <= SIZE);
    memcpy(buffer, disk->bytes + offset, length);
    return answer(disk);
}

static int32_t disk_write(void *userdata, uint64_t offset, const uint8_t *data, size_t length)
{
    struct disk *disk = userdata;
    CLAIM(offset + length <= SIZE);
    memcpy(disk->bytes + offset, data, length);
    return answer(disk);
}

static int32_t disk_flush(void *userdata)
{
    return answer(userdata);
}

static int32_t disk_unmap(void *userdata, uint64_t offset, uint64_t length)
{
    struct disk *disk = userdata;
    memset(disk->bytes + offset, 0, length);
    return answer(disk);
}

static void disk_destroy(void *userdata)
{
    struct disk *disk = userdata;
    CLAIM(atomic_fetch_add(&disk->destroyed, 1) == 0);
}

static lunette_store *new_store(struct disk *disk, uint32_t flags)
{
    lunette_store_callbacks callbacks = { .size = sizeof callbacks, .capacity = SIZE, .flags = flags,
                                          .read = disk_read, .write = disk_write, .flush = disk_flush,
                                          .unmap = disk_unmap, .destroy = disk_destroy };
    lunette_store *store = NULL;
    OK(lunette_store_new_callbacks(&callbacks, disk, &store));
    return store;
}

static void pattern(uint8_t *buffer, size_t length)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = (uint8_t)(i + (i >> 8));
}

static void callbacks_are_a_store(uint32_t flags)
{
    struct disk *disk = calloc(1, sizeof *disk);
    lunette_server *server = new_server();
    lunette_store *store = new_store(disk, flags);
    OK(lunette_server_add_disk(server, store, NULL, NULL, 0));
    OK(lunette_store_free(store));
    EXPECT(INVALID_HANDLE, lunette_store_free(store));
    CLAIM(disk->destroyed == 0);
    lunette_client *client = connect_to(server, 0);
    uint8_t out[65536], in[65536];
    pattern(out, sizeof out);
    OK(lunette_client_write(client, 1024, out, sizeof out));
    CLAIM(memcmp(disk->bytes + 1024, out, sizeof out) == 0);
    OK(lunette_client_read(client, 1024, in, sizeof in));
    CLAIM(memcmp(in, out, sizeof in) == 0);
    OK(lunette_client_unmap(client, 1024, 512));
    CLAIM(disk->bytes[1024 + 100] == 0);

    disk->server = server;
    OK(lunette_client_flush(client));
    disk->server = NULL;

    /* It errs: the command fails, the session goes on. */
    disk->error = EIO;
    EXPECT(CHECK_CONDITION, lunette_client_read(client, 0, in, 512));
    disk->error = -ENOSPC;
    EXPECT(CHECK_CONDITION, lunette_client_write(client, 0, out, 512));
    CLAIM(strstr(lunette_last_error(), "DATA PROTECT") || strstr(lunette_last_error(), "SPACE")
          || strstr(lunette_last_error(), "space"));
    disk->error = INT32_MIN;
    EXPECT(CHECK_CONDITION, lunette_client_read(client, 0, in, 512));
    disk->error = 0;
    OK(lunette_client_read(client, 0, in, 512));
    OK(lunette_client_free(client));
    OK(lunette_server_free(server));
    CLAIM(disk->destroyed == 1);
    free(disk);
}

static void *slow_read(void *client)
{
    uint8_t sector[512];
    OK(lunette_client_read(client, 0, sector, sizeof sector));
    return NULL;
}

static void a_store_that_sleeps_holds_up_nobody_else(void)
{
    struct disk *slow = calloc(1, sizeof *slow), *fast = calloc(1, sizeof *fast);
    lunette_server *server = new_server();
    lunette_store *stores[2] = { new_store(slow, 0), new_store(fast, LUNETTE_STORE_NEVER_WAITS) };
    for (int i = 0; i < 2; i++) {
        OK(lunette_server_add_disk(server, stores[i], NULL, NULL, 0));
        OK(lunette_store_free(stores[i]));
    }
    lunette_client *clients[2] = { connect_to(server, 0), connect_to(server, 1) };
    atomic_store(&slow->sleeping, 1);
    pthread_t thread;
    CLAIM(pthread_create(&thread, NULL, slow_read, clients[0]) == 0);
    uint8_t sector[512];
    for (int i = 0; i < 20; i++)
        OK(lunette_client_read(clients[1], 0, sector, sizeof sector));
    /* It wakes only now that the other has answered; who waited for it would never have. */
    atomic_store(&slow->sleeping, 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 2; i++)
        OK(lunette_client_free(clients[i]));
    OK(lunette_server_free(server));
    CLAIM(slow->destroyed == 1 && fast->destroyed == 1);
    free(slow);
    free(fast);
}

/* An asynchronous store: a thread finishes what it is given. */
struct work {
    struct disk *disk;
    lunette_operation operation;
    lunette_completion *completion;
};

static void carry_out(struct work *work)
{
    struct disk *disk = work->disk;
    lunette_operation *o = &work->operation;
    CLAIM(o->offset + o->length <= SIZE);
    if (o->kind == LUNETTE_OPERATION_KIND_READ) {
        memcpy(o->buffer, disk->bytes + o->offset, o->length);
    } else if (o->kind == LUNETTE_OPERATION_KIND_WRITE) {
        uint64_t at = o->offset;
        for (size_t i = 0; i < o->slice_count; i++) {
            memcpy(disk->bytes + at, o->slices[i].data, o->slices[i].length);
            at += o->slices[i].length;
        }
        CLAIM(at == o->offset + o->length);
    } else if (o->kind == LUNETTE_OPERATION_KIND_UNMAP) {
        memset(disk->bytes + o->offset, 0, o->length);
    }
    atomic_fetch_add(&disk->calls, 1);
    if (atomic_load(&disk->forget))
        OK(lunette_completion_free(work->completion));
    else
        OK(lunette_completion_finish(work->completion, atomic_load(&disk->error)));
    EXPECT(INVALID_HANDLE, lunette_completion_finish(work->completion, 0));
    EXPECT(INVALID_HANDLE, lunette_completion_free(work->completion));
    free(work);
}

static void *carry_out_later(void *work)
{
    pause_ms(2);
    carry_out(work);
    return NULL;
}

static void start(void *userdata, const lunette_operation *operation, lunette_completion *completion)
{
    struct work *work = malloc(sizeof *work);
    *work = (struct work){ userdata, *operation, completion };
    /* Slices are good until the completion is finished, the operation itself only until we return. */
    pthread_t thread;
    if (operation->kind == LUNETTE_OPERATION_KIND_FLUSH || operation->offset % 1024 == 0) {
        carry_out(work);
        return;
    }
    CLAIM(pthread_create(&thread, NULL, carry_out_later, work) == 0);
    pthread_detach(thread);
}

static lunette_store *new_async(struct disk *disk)
{
    lunette_async_store_callbacks callbacks = { .size = sizeof callbacks, .capacity = SIZE,
                                                .unmap_granularity = 512, .start = start,
                                                .destroy = disk_destroy, .volatile_cache = 1 };
    lunette_store *store = NULL;
    OK(lunette_store_new_async(&callbacks, disk, &store));
    return store;
}

static void completions_are_a_store(void)
{
    struct disk *disk = calloc(1, sizeof *disk);
    lunette_server *server = new_server();
    lunette_store *store = new_async(disk);
    OK(lunette_server_add_disk(server, store, NULL, NULL, 0));
    OK(lunette_store_free(store));
    lunette_client *client = connect_to(server, 0);
    uint8_t out[65536], in[65536];
    pattern(out, sizeof out);
    for (uint64_t offset = 0; offset < 4096; offset += 512) {
        OK(lunette_client_write(client, offset, out, sizeof out));
        OK(lunette_client_read(client, offset, in, sizeof in));
        CLAIM(memcmp(in, out, sizeof in) == 0);
    }
    OK(lunette_client_flush(client));
    OK(lunette_client_unmap(client, 512, 1024));
    CLAIM(disk->bytes[512] == 0);
    disk->error = EIO;
    EXPECT(CHECK_CONDITION, lunette_client_read(client, 512, in, 512));
    EXPECT(CHECK_CONDITION, lunette_client_read(client, 1024, in, 512));
    disk->error = 0;
    /* A completion that is given up is a CHECK CONDITION, not a hang. */
    disk->forget = 1;
    EXPECT(CHECK_CONDITION, lunette_client_read(client, 512, in, 512));
    EXPECT(CHECK_CONDITION, lunette_client_read(client, 1024, in, 512));
    disk->forget = 0;
    OK(lunette_client_read(client, 512, in, 512));
    OK(lunette_client_free(client));
    OK(lunette_server_free(server));
    /* The thread that finished the last operation may not have let go of the store yet. */
    for (int i = 0; i < 5000 && !atomic_load(&disk->destroyed); i++)
        pause_ms(1);
    CLAIM(disk->destroyed == 1);
    free(disk);
}

/* Keeps its completions to itself. */
static lunette_completion *kept;
static atomic_int keeps;

static void keep(void *userdata, const lunette_operation *operation, lunette_completion *completion)
{
    if (operation->kind == LUNETTE_OPERATION_KIND_READ && operation->offset == 8192) {
        kept = completion;
        atomic_store(&keeps, 1);
    } else {
        start(userdata, operation, completion);
    }
}

static void *read_kept(void *client)
{
    uint8_t sector[512];
    CLAIM(lunette_client_read(client, 8192, sector, sizeof sector) != LUNETTE_RESULT_OK);
    return NULL;
}

static void a_completion_outlives_its_server(void)
{
    struct disk *disk = calloc(1, sizeof *disk);
    lunette_server *server = new_server();
    lunette_async_store_callbacks callbacks = {
        .size = sizeof callbacks, .capacity = SIZE, .start = keep, .destroy = disk_destroy
    };
    lunette_store *store;
    OK(lunette_store_new_async(&callbacks, disk, &store));
    OK(lunette_server_add_disk(server, store, NULL, NULL, 0));
    OK(lunette_store_free(store));
    char url[400];
    lunette_client *client;
    OK(lunette_server_url(server, 0, url, sizeof url));
    strcat(url, "?reconnect=off");
    OK(lunette_client_connect(url, &client));
    pthread_t thread;
    CLAIM(pthread_create(&thread, NULL, read_kept, client) == 0);
    while (!atomic_load(&keeps))
        pause_ms(1);
    OK(lunette_server_free(server));
    pthread_join(thread, NULL);
    CLAIM(disk->destroyed == 0);
    OK(lunette_completion_finish(kept, 0));
    CLAIM(disk->destroyed == 1);
    OK(lunette_client_free(client));
    free(disk);
}

int main(void)
{
    callbacks_are_a_store(0);
    callbacks_are_a_store(LUNETTE_STORE_NEVER_WAITS);
    a_store_that_sleeps_holds_up_nobody_else();
    completions_are_a_store();
    a_completion_outlives_its_server();
    puts("stores: ok");
    return 0;
}
