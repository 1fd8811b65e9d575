#include <lunette.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int32_t ram_read(void *ram, uint64_t offset, uint8_t *buffer, size_t length) {
    return memcpy(buffer, (uint8_t *)ram + offset, length), 0;
}
static int32_t ram_write(void *ram, uint64_t offset, const uint8_t *data, size_t length) {
    return memcpy((uint8_t *)ram + offset, data, length), 0;
}
int main(void) {
    lunette_store_callbacks ram = { .size = sizeof ram, .capacity = 64 << 20, .flags = LUNETTE_STORE_NEVER_WAITS,
                                    .read = ram_read, .write = ram_write, .destroy = free };
    lunette_store *store; lunette_server *server; char url[320];
    if (lunette_store_new_callbacks(&ram, calloc(1, ram.capacity), &store) || lunette_server_new(NULL, &server) ||
        lunette_server_add_disk(server, store, NULL, NULL, 0) || lunette_store_free(store) ||
        lunette_server_listen(server, "127.0.0.1:0", NULL) || lunette_server_url(server, 0, url, sizeof url))
        return fprintf(stderr, "%s\n", lunette_last_error()), 1;
    return puts(url), fflush(stdout), getchar(), lunette_server_free(server); /* until Enter, or the end of stdin */
}
