/* The header twice, with nothing before it: it needs no other and guards itself. */
#include <lunette.h>
#include <lunette.h>

int main(void)
{
    return lunette_version() == 0;
}
