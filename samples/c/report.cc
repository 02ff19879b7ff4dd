// A process in C++: counts words, again and again. There are no exceptions on this target.
#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <unistd.h>

int main(int argc, char **argv) {
  unsigned seconds = 5;
  for (int i = 1; i + 1 < argc; i++) {
    if (std::string_view(argv[i]) == "--every") seconds = std::strtoul(argv[i + 1], nullptr, 10);
  }
  const char *text = std::getenv("TEXT");
  std::istringstream words(text ? text : "to be or not to be");
  std::map<std::string, int> counts;
  for (std::string word; words >> word;) counts[word]++;
  for (;;) {
    for (const auto &[word, count] : counts) std::cout << word << '=' << count << ' ';
    std::cout << "every " << seconds << " s" << std::endl;
    sleep(seconds > 0 ? seconds : 1);
  }
}
