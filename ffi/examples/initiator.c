/* Connects to a disk, tells what it is, writes a block and reads it back: initiator URL */
#include <lunette.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(lunette_result result, const char *what)
{
    if (result != LUNETTE_RESULT_OK) {
        fprintf(stderr, "initiator: %s: %s (%s)\n", what, lunette_last_error(), lunette_result_name(result));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: initiator iscsi://[user%%secret@]host[:port]/target/lun\n");
        return 2;
    }
    lunette_client *disk;
    uint64_t bytes;
    uint32_t block;
    check(lunette_client_connect(argv[1], &disk), argv[1]);
    check(lunette_client_capacity(disk, &bytes, &block), "capacity");

    const uint8_t cdb[6] = { 0x12, 0, 0, 0, 36, 0 }; /* INQUIRY */
    uint8_t inquiry[36];
    lunette_command command = { .size = sizeof command, .cdb = cdb, .cdb_length = sizeof cdb,
                                .data_in = inquiry, .data_in_length = sizeof inquiry };
    check(lunette_client_execute(disk, &command), "inquiry");
    if (command.status != 0 || command.data_in_received != sizeof inquiry) {
        fprintf(stderr, "initiator: INQUIRY ended with status %u\n", command.status);
        return 1;
    }
    printf("%.8s %.16s, %llu bytes, blocks of %u\n", (char *)inquiry + 8, (char *)inquiry + 16,
           (unsigned long long)bytes, block);

    uint8_t *written = malloc(block), *read = malloc(block);
    memset(written, 0xa5, block);
    check(lunette_client_write(disk, bytes - block, written, block), "write");
    check(lunette_client_flush(disk), "flush");
    check(lunette_client_read(disk, bytes - block, read, block), "read");
    int differ = memcmp(written, read, block);
    puts(differ ? "the block differs" : "the block is the same");
    free(written);
    free(read);
    check(lunette_client_free(disk), "logout");
    return differ != 0;
}
