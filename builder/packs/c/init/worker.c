/* Says that it is there, every few seconds: gilliam config INTERVAL=1 changes how often. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
  const char *interval = getenv("INTERVAL");
  unsigned seconds = interval ? (unsigned)strtoul(interval, NULL, 10) : 5;
  for (unsigned long count = 1;; count++) {
    printf("tick %lu\n", count);
    fflush(stdout);
    sleep(seconds > 0 ? seconds : 1);
  }
}
