/* So many sessions at once against a server: sessions URL COUNT. Each writes and reads a range of its own. */
#include "check.h"

static const char *url;
static atomic_uint there, count;

static void *session(void *number)
{
    uint64_t index = (uintptr_t)number, offset = index << 20;
    uint8_t *out = malloc(65536), *in = malloc(65536);
    lunette_client *client;
    OK(lunette_client_connect(url, &client));
    atomic_fetch_add(&there, 1);
    while (atomic_load(&there) < atomic_load(&count))
        pause_ms(1);
    for (unsigned i = 0; i < 32; i++) {
        memset(out, (int)(index + i), 65536);
        out[0] = (uint8_t)(index + 1);
        OK(lunette_client_write(client, offset + (i % 2) * 65536u, out, 65536));
        OK(lunette_client_read(client, offset + (i % 2) * 65536u, in, 65536));
        CLAIM(memcmp(out, in, 65536) == 0);
    }
    OK(lunette_client_flush(client));
    OK(lunette_client_free(client));
    free(out);
    free(in);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    CLAIM(argc == 3);
    url = argv[1];
    count = (unsigned)atoi(argv[2]);
    CLAIM(count <= 64);
    for (uintptr_t i = 0; i < count; i++)
        CLAIM(pthread_create(&threads[i], NULL, session, (void *)i) == 0);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    puts("sessions: ok");
    return 0;
}
