#include <ctype.h>
#include <stdio.h>

/* Counts the words of its input. */
int main(void) {
    long words = 0;
    int character, inside = 0;
    while ((character = getchar()) != EOF) {
        words += !isspace(character) && !inside;
        inside = !isspace(character);
    }
    fprintf(stderr, "read everything\n");
    printf("%ld\n", words);
    return 0;
}
