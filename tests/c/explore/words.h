/* Which words are worth a choice: before an access to a word that nobody else uses, to go on is as good as any. */
#ifndef MQT_WORDS_H
#define MQT_WORDS_H

#include <stdbool.h>

#define PREEMPTABLE 1u /* several actors use it, and one of them writes */
#define MORTAL 2u      /* an actor writes it, and somebody else reads that, if only afterwards */

void words_forget(void); /* for another program */
void words_begin(void);  /* for another search, which goes by what is known now: it must not change under way */
unsigned words_use(const void *word, unsigned user, bool writes);
bool words_grew(void); /* since words_begin: another search would have more choices */

#endif
